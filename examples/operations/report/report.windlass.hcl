operation "sales-report" {
  description = "Sales of a month by product, as CSV and Markdown. It reads, and can do nothing else."
  owner       = team.shop
  allow       = [team.shop, team.sre]
  labels      = { area = "shop" }
  timeout     = "10m"

  param "month" {
    type        = string
    pattern     = "[0-9]{4}-(0[1-9]|1[0-2])"
    description = "Such as 2026-10"
  }

  secret "database" {
    env = "REPORT_DATABASE"
  }

  step "read" {
    description = "Ask the database"
    sql {
      url = secret.database
      statement = <<-SQL
        SELECT product, count(*) AS sales, sum(amount)::bigint AS amount
        FROM sales
        WHERE to_char(sold_at, 'YYYY-MM') = $1
        GROUP BY product
        ORDER BY amount DESC, product
      SQL
      values   = [param.month]
      max_rows = 1000
    }
    timeout = "5m"
    retry {
      attempts = 2
      backoff  = "2s"
    }
  }

  step "write" {
    description = "Write the report"
    directory   = "report"
    run         = ["./write", param.month]
    env         = { ROWS = jsonencode(step.read.outputs.rows) }
    artefacts   = ["sales-*.csv", "sales-*.md"]
  }
}
