//! Waivers: recorded with who gave them, never removed.

use crate::db::params;
use crate::journal::NewEvent;
use crate::runs::encode;
use crate::{Durability, Result, Store, StoreError};
use windlass_model::waiver::Waiver;

const SCOPE: &str = "waiver";

impl Store {
    /// Records a waiver and the fact of it. One of the same finding on the same review takes its place.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn waiver_put(&self, waiver: &Waiver) -> Result<()> {
        let text = encode("waiver", waiver)?;
        let (scope, waiver) = (self.scope.clone(), waiver.clone());
        self.write(Durability::Durable, move |tx| {
            let name = format!("{}/{}", waiver.review, waiver.finding);
            tx.execute(
                "INSERT INTO kv (project, scope, name, value) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (project, scope, name) DO UPDATE SET value = excluded.value",
                params![&scope.project, SCOPE, &name, &text],
            )?;
            let data = serde_json::json!({
                "finding": waiver.finding, "policy": waiver.policy, "rule": waiver.rule, "instance": waiver.instance,
                "address": waiver.address, "reason": waiver.reason, "until": waiver.until,
            });
            let actor = waiver.actor.to_string();
            scope.event(
                tx,
                NewEvent {
                    run: Some(waiver.review.as_str()),
                    actor: Some(&actor),
                    reason: Some(&waiver.reason),
                    ..NewEvent::of("waiver.given", data)
                },
            )
        })
        .await
    }

    /// All waivers, also those that do not hold any more; oldest review first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn waiver_list(&self) -> Result<Vec<Waiver>> {
        let rows = self.kv_list(SCOPE).await?;
        rows.iter()
            .map(|(_, text)| {
                serde_json::from_str(text).map_err(|e| StoreError::Decode { what: "waiver", message: e.to_string() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::Store;
    use windlass_model::approval::Actor;
    use windlass_model::id::RunId;
    use windlass_model::waiver::Waiver;

    #[tokio::test]
    async fn a_waiver_is_a_record_and_an_event() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("w.db")).await.unwrap();
        let actor = Actor { name: "ops".into(), identities: vec!["email:ops@example.com".into()], verified: true };
        let waiver = Waiver {
            finding: "f1".into(),
            review: RunId::new("01k"),
            instance: None,
            policy: "p".into(),
            rule: None,
            address: None,
            message: "no".into(),
            actor,
            reason: "once".into(),
            at: 1,
            until: 2,
        };
        store.waiver_put(&waiver).await.unwrap();
        let again = Waiver { reason: "longer".into(), until: 3, ..waiver.clone() };
        store.waiver_put(&again).await.unwrap();
        store.waiver_put(&Waiver { finding: "f2".into(), ..waiver.clone() }).await.unwrap();
        let kept = store.waiver_list().await.unwrap();
        assert_eq!(kept, [again, Waiver { finding: "f2".into(), ..waiver }]);
        let events = store.event_list(Some(&RunId::new("01k")), 0, 10).await.unwrap();
        let found: Vec<_> = events.iter().map(|e| (e.kind.as_str(), e.actor.as_deref(), &e.data["reason"])).collect();
        let actor = Some("ops <ops@example.com>");
        let want = |reason: &str| serde_json::Value::from(reason);
        let (once, longer) = (want("once"), want("longer"));
        assert_eq!(
            found,
            [("waiver.given", actor, &once), ("waiver.given", actor, &longer), ("waiver.given", actor, &once)]
        );
        store.close().await;
    }
}
