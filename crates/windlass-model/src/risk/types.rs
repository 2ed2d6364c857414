//! Resource types that matter more than others, by provider. A row is a type, or a beginning or an end of one with `*`. A whole
//! type beats a beginning, the longest beginning wins, ends come last: they catch providers that are not listed.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Why a type matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Holds data that is gone with it.
    Data(Holds),
    /// Decides who may do what.
    Access,
    /// Decides what can be reached.
    Network,
    /// Looks like one of the others by its name and is not.
    Plain,
}

/// What a type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    Database,
    Table,
    Bucket,
    Volume,
    Queue,
    Key,
    Secret,
    Zone,
    Backup,
    Registry,
    Directory,
    Namespace,
    Log,
    Machine,
}

/// How a reviewer is told.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    pub one: &'static str,
    pub many: &'static str,
    pub loss_one: &'static str,
    pub loss_many: &'static str,
}

impl Holds {
    /// What destroying one adds to the score.
    pub fn points(self) -> u32 {
        match self {
            Self::Database | Self::Table | Self::Bucket | Self::Key | Self::Directory | Self::Namespace => 60,
            Self::Volume | Self::Zone | Self::Backup => 50,
            Self::Queue | Self::Secret | Self::Registry => 40,
            Self::Log => 25,
            Self::Machine => 15,
        }
    }

    pub fn words(self) -> Words {
        let (one, many, loss_one, loss_many) = match self {
            Self::Database => {
                ("database", "databases", "data in it is lost unless restored", "data in them is lost unless restored")
            }
            Self::Table => {
                ("table", "tables", "its rows are lost unless restored", "their rows are lost unless restored")
            }
            Self::Bucket => (
                "bucket",
                "buckets",
                "objects in it are lost unless copied elsewhere",
                "objects in them are lost unless copied elsewhere",
            ),
            Self::Volume => (
                "volume",
                "volumes",
                "data on it is lost unless restored from a snapshot",
                "data on them is lost unless restored from snapshots",
            ),
            Self::Queue => ("queue", "queues", "messages in it are lost", "messages in them are lost"),
            Self::Key => (
                "key",
                "keys",
                "whatever is encrypted with it becomes unreadable",
                "whatever is encrypted with them becomes unreadable",
            ),
            Self::Secret => (
                "secret",
                "secrets",
                "its value is lost, and whoever uses it needs a new one",
                "their values are lost, and whoever uses them needs new ones",
            ),
            Self::Zone => (
                "zone",
                "zones",
                "its names stop resolving, and a new zone gets other name servers",
                "their names stop resolving, and new zones get other name servers",
            ),
            Self::Backup => (
                "backup",
                "backups",
                "what it holds cannot be restored any more",
                "what they hold cannot be restored any more",
            ),
            Self::Registry => (
                "registry",
                "registries",
                "artefacts in it are lost and can no longer be pulled",
                "artefacts in them are lost and can no longer be pulled",
            ),
            Self::Directory => ("directory", "directories", "its accounts are lost", "their accounts are lost"),
            Self::Namespace => {
                ("namespace", "namespaces", "everything in it goes with it", "everything in them goes with them")
            }
            Self::Log => ("log", "logs", "what is recorded in it is lost", "what is recorded in them is lost"),
            Self::Machine => {
                ("machine", "machines", "what is on its own disks is lost", "what is on their own disks is lost")
            }
        };
        Words { one, many, loss_one, loss_many }
    }
}

/// Why a resource type matters; `None` when it is not known to.
pub fn class_of(resource_type: &str) -> Option<Class> {
    static ROWS: LazyLock<Rows> = LazyLock::new(Rows::of_tables);
    let longest = |rows: &[(&'static str, Class)], fits: fn(&str, &str) -> bool| {
        rows.iter()
            .filter(|(row, _)| fits(resource_type, row))
            .max_by_key(|(row, _)| row.len())
            .map(|(_, class)| *class)
    };
    let exact = ROWS.exact.get(resource_type).copied();
    exact
        .or_else(|| longest(&ROWS.beginnings, |text, row| text.starts_with(row)))
        .or_else(|| longest(&ROWS.ends, |text, row| text.ends_with(row)))
}

/// The tables as they are looked up in: there is a question for every resource of a plan.
#[derive(Default)]
struct Rows {
    exact: HashMap<&'static str, Class>,
    beginnings: Vec<(&'static str, Class)>,
    ends: Vec<(&'static str, Class)>,
}

impl Rows {
    fn of_tables() -> Self {
        let mut rows = Self::default();
        for (class, table) in TABLES {
            for row in table.split_whitespace() {
                if let Some(beginning) = row.strip_suffix('*') {
                    rows.beginnings.push((beginning, *class));
                } else if let Some(end) = row.strip_prefix('*') {
                    rows.ends.push((end, *class));
                } else {
                    // The first table that names it counts.
                    rows.exact.entry(row).or_insert(*class);
                }
            }
        }
        rows
    }
}

/// All rows, for tests.
#[cfg(test)]
pub(super) fn rows() -> Vec<&'static str> {
    TABLES.iter().flat_map(|(_, rows)| rows.split_whitespace()).collect()
}

const TABLES: &[(Class, &str)] = &[
    // AWS
    (
        Class::Data(Holds::Database),
        "aws_db_instance aws_rds_cluster aws_rds_global_cluster aws_docdb_cluster aws_docdb_global_cluster
         aws_docdbelastic_cluster aws_neptune_cluster aws_neptune_global_cluster aws_redshift_cluster
         aws_redshiftserverless_namespace aws_elasticache_cluster aws_elasticache_replication_group
         aws_elasticache_global_replication_group aws_elasticache_serverless_cache aws_memorydb_cluster aws_opensearch_domain
         aws_opensearchserverless_collection aws_elasticsearch_domain aws_timestreamwrite_database
         aws_timestreaminfluxdb_db_instance aws_keyspaces_keyspace aws_qldb_ledger aws_dsql_cluster aws_lightsail_database",
    ),
    (
        Class::Data(Holds::Table),
        "aws_dynamodb_table aws_dynamodb_global_table aws_dynamodb_table_replica aws_keyspaces_table
         aws_timestreamwrite_table aws_s3tables_table",
    ),
    (
        Class::Data(Holds::Bucket),
        "aws_s3_bucket aws_s3_directory_bucket aws_s3tables_table_bucket aws_lightsail_bucket aws_s3control_bucket",
    ),
    (
        Class::Data(Holds::Volume),
        "aws_ebs_volume aws_efs_file_system aws_fsx_* aws_lightsail_disk aws_storagegateway_cached_iscsi_volume
         aws_storagegateway_stored_iscsi_volume",
    ),
    (Class::Data(Holds::Queue), "aws_sqs_queue aws_kinesis_stream aws_msk_cluster aws_msk_serverless_cluster aws_mq_broker"),
    (Class::Data(Holds::Key), "aws_kms_key aws_kms_replica_key aws_kms_external_key aws_cloudhsm_v2_cluster"),
    (Class::Data(Holds::Secret), "aws_secretsmanager_secret aws_secretsmanager_secret_version aws_ssm_parameter"),
    (Class::Data(Holds::Zone), "aws_route53_zone aws_service_discovery_private_dns_namespace"),
    (
        Class::Data(Holds::Backup),
        "aws_backup_vault aws_backup_logically_air_gapped_vault aws_db_snapshot aws_db_snapshot_copy aws_db_cluster_snapshot
         aws_ebs_snapshot aws_ebs_snapshot_copy aws_ami aws_ami_copy aws_glacier_vault aws_fsx_backup",
    ),
    (Class::Data(Holds::Registry), "aws_ecr_repository aws_ecrpublic_repository aws_codeartifact_repository aws_codecommit_repository"),
    (Class::Data(Holds::Directory), "aws_cognito_user_pool aws_directory_service_directory"),
    (Class::Data(Holds::Log), "aws_cloudwatch_log_group aws_cloudtrail aws_cloudtrail_event_data_store"),
    (Class::Data(Holds::Machine), "aws_instance aws_spot_instance_request aws_lightsail_instance"),
    (
        Class::Access,
        "aws_iam_* aws_s3_bucket_policy aws_s3_bucket_acl aws_s3_bucket_public_access_block aws_s3_bucket_ownership_controls
         aws_s3_account_public_access_block aws_s3_access_point aws_kms_key_policy aws_kms_grant aws_sqs_queue_policy
         aws_sns_topic_policy aws_secretsmanager_secret_policy aws_ecr_repository_policy aws_ecr_registry_policy
         aws_lambda_permission aws_organizations_policy* aws_ssoadmin_* aws_identitystore_* aws_backup_vault_policy
         aws_dynamodb_resource_policy aws_efs_file_system_policy aws_glacier_vault_lock aws_cognito_identity_pool*
         aws_eks_access_* aws_eks_pod_identity_association aws_lakeformation_* aws_ram_* aws_opensearch_domain_policy
         aws_elasticsearch_domain_policy aws_opensearchserverless_access_policy aws_cloudwatch_log_resource_policy
         aws_key_pair",
    ),
    (
        Class::Network,
        "aws_security_group aws_security_group_rule aws_vpc_security_group_* aws_default_security_group aws_network_acl*
         aws_default_network_acl aws_networkfirewall_* aws_waf* aws_shield_* aws_eip* aws_lb* aws_alb* aws_elb*
         aws_load_balancer_* aws_app_cookie_stickiness_policy aws_route aws_route_table* aws_default_route_table
         aws_main_route_table_association aws_internet_gateway* aws_egress_only_internet_gateway aws_nat_gateway aws_vpc
         aws_default_vpc aws_subnet aws_default_subnet aws_vpc_endpoint* aws_vpc_peering_connection* aws_ec2_transit_gateway*
         aws_vpn_* aws_customer_gateway aws_dx_* aws_globalaccelerator_* aws_cloudfront_distribution aws_lambda_function_url
         aws_route53_record aws_route53_resolver_*",
    ),
    (Class::Plain, "aws_fsx_openzfs_snapshot aws_iam_service_linked_role aws_shield_protection_group aws_glue_catalog_database"),
    // Azure
    (
        Class::Data(Holds::Database),
        "azurerm_mssql_server azurerm_mssql_database azurerm_mssql_managed_instance azurerm_mssql_managed_database
         azurerm_sql_server azurerm_sql_database azurerm_postgresql_server azurerm_postgresql_database
         azurerm_postgresql_flexible_server azurerm_postgresql_flexible_server_database azurerm_mysql_server
         azurerm_mysql_database azurerm_mysql_flexible_server azurerm_mysql_flexible_database azurerm_mariadb_server
         azurerm_mariadb_database azurerm_cosmosdb_account azurerm_cosmosdb_sql_database azurerm_cosmosdb_mongo_database
         azurerm_cosmosdb_cassandra_keyspace azurerm_cosmosdb_gremlin_database azurerm_cosmosdb_cassandra_cluster
         azurerm_cosmosdb_postgresql_cluster azurerm_redis_cache azurerm_redis_enterprise_cluster
         azurerm_redis_enterprise_database azurerm_managed_redis azurerm_kusto_cluster azurerm_kusto_database
         azurerm_synapse_workspace azurerm_synapse_sql_pool azurerm_search_service",
    ),
    (
        Class::Data(Holds::Table),
        "azurerm_cosmosdb_sql_container azurerm_cosmosdb_mongo_collection azurerm_cosmosdb_cassandra_table
         azurerm_cosmosdb_gremlin_graph azurerm_cosmosdb_table azurerm_storage_table",
    ),
    (
        Class::Data(Holds::Bucket),
        "azurerm_storage_account azurerm_storage_container azurerm_storage_data_lake_gen2_filesystem",
    ),
    (Class::Data(Holds::Volume), "azurerm_managed_disk azurerm_storage_share azurerm_netapp_volume azurerm_netapp_pool"),
    (
        Class::Data(Holds::Queue),
        "azurerm_storage_queue azurerm_servicebus_namespace azurerm_servicebus_queue azurerm_servicebus_topic
         azurerm_servicebus_subscription azurerm_eventhub_namespace azurerm_eventhub azurerm_eventhub_cluster",
    ),
    (
        Class::Data(Holds::Key),
        "azurerm_key_vault azurerm_key_vault_key azurerm_key_vault_managed_hardware_security_module
         azurerm_key_vault_managed_hardware_security_module_key azurerm_disk_encryption_set",
    ),
    (Class::Data(Holds::Secret), "azurerm_key_vault_secret azurerm_key_vault_certificate azurerm_app_configuration"),
    (Class::Data(Holds::Zone), "azurerm_dns_zone azurerm_private_dns_zone"),
    (
        Class::Data(Holds::Backup),
        "azurerm_recovery_services_vault azurerm_data_protection_backup_vault azurerm_snapshot azurerm_image
         azurerm_backup_protected_vm azurerm_netapp_snapshot",
    ),
    (Class::Data(Holds::Registry), "azurerm_container_registry"),
    (Class::Data(Holds::Directory), "azurerm_active_directory_domain_service azurerm_aadb2c_directory"),
    // A resource group takes all that is in it along.
    (Class::Data(Holds::Namespace), "azurerm_resource_group"),
    (Class::Data(Holds::Log), "azurerm_log_analytics_workspace azurerm_application_insights"),
    (
        Class::Data(Holds::Machine),
        "azurerm_virtual_machine azurerm_linux_virtual_machine azurerm_windows_virtual_machine",
    ),
    (
        Class::Access,
        "azurerm_role_* azurerm_pim_* azurerm_user_assigned_identity azurerm_federated_identity_credential
         azurerm_key_vault_access_policy azurerm_management_lock azurerm_policy_* azurerm_management_group_policy_* azurerm_subscription_policy_* azurerm_resource_policy_*
         azurerm_resource_group_policy_* azurerm_cosmosdb_sql_role_* azuread_*",
    ),
    (
        Class::Network,
        "azurerm_network_security_* azurerm_application_security_group azurerm_firewall* azurerm_web_application_firewall_policy
         azurerm_public_ip* azurerm_lb* azurerm_application_gateway azurerm_frontdoor* azurerm_cdn_* azurerm_route
         azurerm_route_table azurerm_subnet* azurerm_virtual_network* azurerm_private_endpoint azurerm_private_link_service
         azurerm_nat_gateway* azurerm_bastion_host azurerm_vpn_* azurerm_express_route_* azurerm_virtual_hub*
         azurerm_virtual_wan azurerm_traffic_manager_* azurerm_dns_* azurerm_private_dns_*
         azurerm_mssql_firewall_rule azurerm_postgresql_firewall_rule azurerm_postgresql_flexible_server_firewall_rule
         azurerm_mysql_firewall_rule azurerm_mysql_flexible_server_firewall_rule azurerm_redis_firewall_rule
         azurerm_storage_account_network_rules",
    ),
    // Google Cloud
    (
        Class::Data(Holds::Database),
        "google_sql_database_instance google_sql_database google_spanner_instance google_spanner_database
         google_bigtable_instance google_bigquery_dataset google_firestore_database google_alloydb_cluster
         google_alloydb_instance google_redis_instance google_redis_cluster google_memcache_instance
         google_memorystore_instance",
    ),
    (Class::Data(Holds::Table), "google_bigtable_table google_bigquery_table"),
    (Class::Data(Holds::Bucket), "google_storage_bucket"),
    (
        Class::Data(Holds::Volume),
        "google_compute_disk google_compute_region_disk google_filestore_instance google_netapp_volume
         google_netapp_storage_pool google_parallelstore_instance",
    ),
    (
        Class::Data(Holds::Queue),
        "google_pubsub_topic google_pubsub_subscription google_pubsub_lite_topic google_cloud_tasks_queue
         google_managed_kafka_cluster google_managed_kafka_topic",
    ),
    (Class::Data(Holds::Key), "google_kms_key_ring google_kms_crypto_key google_kms_crypto_key_version"),
    (Class::Data(Holds::Secret), "google_secret_manager_secret google_secret_manager_secret_version google_secret_manager_regional_secret"),
    (Class::Data(Holds::Zone), "google_dns_managed_zone"),
    (
        Class::Data(Holds::Backup),
        "google_compute_snapshot google_compute_image google_compute_machine_image google_filestore_backup
         google_filestore_snapshot google_alloydb_backup google_backup_dr_backup_vault google_gke_backup_backup_plan
         google_spanner_backup_schedule google_netapp_backup_vault",
    ),
    (Class::Data(Holds::Registry), "google_artifact_registry_repository google_container_registry google_sourcerepo_repository"),
    (Class::Data(Holds::Directory), "google_identity_platform_tenant google_active_directory_domain"),
    (Class::Data(Holds::Namespace), "google_project"),
    (Class::Data(Holds::Log), "google_logging_project_bucket_config google_logging_organization_bucket_config"),
    (Class::Data(Holds::Machine), "google_compute_instance"),
    (
        Class::Access,
        "google_project_iam_* google_organization_iam_* google_folder_iam_* google_service_account* google_iam_*
         google_project_organization_policy google_org_policy_policy google_organization_policy google_folder_organization_policy
         google_project_default_service_accounts google_storage_bucket_acl google_storage_bucket_access_control
         google_storage_default_object_acl google_bigquery_dataset_access google_access_context_manager_*
         *_iam_member *_iam_binding *_iam_policy",
    ),
    (
        Class::Network,
        "google_compute_firewall* google_compute_network* google_compute_region_network_* google_compute_security_policy*
         google_compute_subnetwork* google_compute_address google_compute_global_address google_compute_route
         google_compute_router* google_compute_forwarding_rule google_compute_global_forwarding_rule
         google_compute_backend_service google_compute_region_backend_service google_compute_url_map
         google_compute_region_url_map google_compute_target_* google_compute_vpn_* google_compute_ha_vpn_gateway
         google_compute_interconnect_attachment google_compute_shared_vpc_* google_dns_record_set google_dns_policy
         google_network_security_* google_network_services_* google_vpc_access_connector",
    ),
    // Kubernetes
    (
        Class::Data(Holds::Volume),
        "kubernetes_persistent_volume kubernetes_persistent_volume_v1 kubernetes_persistent_volume_claim
         kubernetes_persistent_volume_claim_v1",
    ),
    (Class::Data(Holds::Secret), "kubernetes_secret kubernetes_secret_v1"),
    (Class::Data(Holds::Namespace), "kubernetes_namespace kubernetes_namespace_v1"),
    (
        Class::Access,
        "kubernetes_role* kubernetes_cluster_role* kubernetes_service_account* kubernetes_default_service_account*
         kubernetes_pod_security_policy* kubernetes_validating_webhook_configuration*
         kubernetes_mutating_webhook_configuration*",
    ),
    (Class::Network, "kubernetes_service kubernetes_service_v1 kubernetes_ingress* kubernetes_network_policy*"),
    // Others
    (
        Class::Data(Holds::Database),
        "postgresql_database postgresql_schema mysql_database mongodbatlas_cluster mongodbatlas_advanced_cluster
         snowflake_database snowflake_schema digitalocean_database_cluster elasticstack_elasticsearch_index
         *_database *_database_cluster *_db_instance *_db_cluster",
    ),
    (Class::Data(Holds::Table), "snowflake_table *_dynamodb_table"),
    (Class::Data(Holds::Bucket), "cloudflare_r2_bucket *_bucket"),
    (Class::Data(Holds::Volume), "openstack_blockstorage_volume_* vsphere_virtual_disk *_block_volume *_volume *_disk"),
    (Class::Data(Holds::Queue), "kafka_topic confluent_kafka_cluster confluent_kafka_topic rabbitmq_queue rabbitmq_vhost *_queue"),
    (Class::Data(Holds::Key), "vault_transit_secret_backend_key"),
    (
        Class::Data(Holds::Secret),
        "vault_mount vault_kv_secret vault_kv_secret_v2 vault_generic_secret tls_private_key random_password",
    ),
    (Class::Data(Holds::Zone), "cloudflare_zone digitalocean_domain ns1_zone powerdns_zone *_dns_zone"),
    (Class::Access, "vault_policy vault_auth_* *_auth_backend *_auth_backend_role vault_identity_* postgresql_grant* postgresql_role mysql_grant mysql_user"),
    (
        Class::Network,
        "cloudflare_record cloudflare_dns_record cloudflare_ruleset cloudflare_load_balancer* digitalocean_firewall
         digitalocean_loadbalancer openstack_networking_* *_firewall *_firewall_rule *_security_group *_security_group_rule
         *_load_balancer *_loadbalancer",
    ),
];
