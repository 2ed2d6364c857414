region  = "osaka"
targets = ["cassandra"]
