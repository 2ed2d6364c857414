region     = "osaka"
node_count = 3
