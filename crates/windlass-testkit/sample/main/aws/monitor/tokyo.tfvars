region  = "tokyo"
targets = ["cassandra", "scalardl"]
