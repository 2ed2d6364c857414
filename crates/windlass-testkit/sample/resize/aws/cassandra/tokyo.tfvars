region     = "tokyo"
node_count = 2
