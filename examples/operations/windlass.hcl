# Six operations that are run for real in the tests of Windlass; see docs/sample-operations.md. What is particular to the place they
# work on is in `site.windlass.hcl`.

project "operations" {
  environment "production" {
    match = ["**"]
  }
}

team "sre" {
  members = ["email:sre@example.com"]
}

team "shop" {
  members = ["email:shop@example.com"]
}
