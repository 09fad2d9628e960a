def write_report(store, study):
    pass
