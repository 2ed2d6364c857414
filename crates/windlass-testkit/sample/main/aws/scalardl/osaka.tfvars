region = "osaka"
