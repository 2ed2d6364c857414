# METADATA
# title: Data is not deleted by the way
# description: >-
#   Databases, buckets, disks, queues, keys and secrets that the apply destroys, also to make them anew. What may go stands in
#   `data.library.settings.may_delete`: addresses, a `*` at the end for everything that begins so.
# related_resources:
# - ref: https://developer.hashicorp.com/terraform/language/meta-arguments/lifecycle
# custom:
#   severity: critical
package library.terraform.data_deletion

import data.library.plan
import rego.v1

# Addresses that may be destroyed.
default may_delete := []

may_delete := data.library.settings.may_delete

# More types that hold data.
default data_types := []

data_types := data.library.settings.data_types

# Types that hold data, or without which data cannot be read.
holds_data := {
	"aws_backup_vault",
	"aws_cloudwatch_log_group",
	"aws_db_instance",
	"aws_docdb_cluster",
	"aws_docdb_cluster_instance",
	"aws_dynamodb_table",
	"aws_ebs_volume",
	"aws_ecr_repository",
	"aws_efs_file_system",
	"aws_elasticache_cluster",
	"aws_elasticache_replication_group",
	"aws_elasticsearch_domain",
	"aws_fsx_lustre_file_system",
	"aws_fsx_ontap_file_system",
	"aws_fsx_windows_file_system",
	"aws_glacier_vault",
	"aws_keyspaces_table",
	"aws_kinesis_stream",
	"aws_kms_key",
	"aws_memorydb_cluster",
	"aws_mq_broker",
	"aws_msk_cluster",
	"aws_neptune_cluster",
	"aws_opensearch_domain",
	"aws_rds_cluster",
	"aws_redshift_cluster",
	"aws_s3_bucket",
	"aws_s3_directory_bucket",
	"aws_secretsmanager_secret",
	"aws_sqs_queue",
	"aws_timestreamwrite_table",
	"azurerm_container_registry",
	"azurerm_cosmosdb_account",
	"azurerm_cosmosdb_cassandra_keyspace",
	"azurerm_cosmosdb_cassandra_table",
	"azurerm_cosmosdb_mongo_database",
	"azurerm_cosmosdb_sql_container",
	"azurerm_cosmosdb_sql_database",
	"azurerm_data_lake_store",
	"azurerm_eventhub",
	"azurerm_key_vault",
	"azurerm_key_vault_key",
	"azurerm_key_vault_secret",
	"azurerm_kusto_database",
	"azurerm_log_analytics_workspace",
	"azurerm_managed_disk",
	"azurerm_mariadb_server",
	"azurerm_mssql_database",
	"azurerm_mssql_managed_instance",
	"azurerm_mssql_server",
	"azurerm_mysql_flexible_server",
	"azurerm_mysql_server",
	"azurerm_netapp_volume",
	"azurerm_postgresql_flexible_server",
	"azurerm_postgresql_flexible_server_database",
	"azurerm_postgresql_server",
	"azurerm_recovery_services_vault",
	"azurerm_redis_cache",
	"azurerm_resource_group",
	"azurerm_servicebus_queue",
	"azurerm_storage_account",
	"azurerm_storage_container",
	"azurerm_storage_share",
	"azurerm_storage_table",
	"google_alloydb_cluster",
	"google_artifact_registry_repository",
	"google_bigquery_dataset",
	"google_bigquery_table",
	"google_bigtable_instance",
	"google_bigtable_table",
	"google_compute_disk",
	"google_compute_region_disk",
	"google_filestore_instance",
	"google_firestore_database",
	"google_kms_crypto_key",
	"google_project",
	"google_pubsub_subscription",
	"google_pubsub_topic",
	"google_redis_instance",
	"google_secret_manager_secret",
	"google_spanner_database",
	"google_spanner_instance",
	"google_sql_database",
	"google_sql_database_instance",
	"google_storage_bucket",
	"kubernetes_namespace",
	"kubernetes_namespace_v1",
	"kubernetes_persistent_volume",
	"kubernetes_persistent_volume_claim",
	"kubernetes_persistent_volume_claim_v1",
	"kubernetes_persistent_volume_v1",
	"kubernetes_secret",
	"kubernetes_secret_v1",
	"kubernetes_stateful_set",
	"kubernetes_stateful_set_v1",
}

deny contains plan.result(change, msg) if {
	some change in plan.destroyed
	bears_data(change)
	not allowed(change.address)
	msg := sprintf(
		"%s would be %s, with the data in it: keep it, or list its address in may_delete",
		[change.address, what(change)],
	)
}

bears_data(change) if change.type in holds_data

bears_data(change) if change.type in data_types

allowed(address) if address in may_delete

allowed(address) if {
	some pattern in may_delete
	endswith(pattern, "*")
	startswith(address, trim_suffix(pattern, "*"))
}

# What would happen, with the attribute that makes it so where the plan says.
what(change) := "destroyed" if {
	not "create" in change.change.actions
} else := sprintf("destroyed and made anew because of %s", [concat(", ", sort(reasons))]) if {
	reasons := {attribute |
		some path in change.change.replace_paths
		attribute := sprintf("%v", [path[0]])
	}
	count(reasons) > 0
} else := "destroyed and made anew"
