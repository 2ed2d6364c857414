region     = "tokyo"
node_count = 5
