region     = "tokyo"
node_count = 3
