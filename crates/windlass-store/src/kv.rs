//! Small values by scope and name.

use crate::db::params;
use crate::{Durability, Result, Store};

impl Store {
    /// All values of a scope, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn kv_list(&self, scope: &str) -> Result<Vec<(String, String)>> {
        let (project, scope) = (self.scope.project.clone(), scope.to_owned());
        self.read(move |tx| {
            tx.rows(
                "SELECT name, value FROM kv WHERE project = $1 AND scope = $2 ORDER BY name",
                params![&project, &scope],
            )
        })
        .await
    }

    /// One value of a scope.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn kv_get(&self, scope: &str, name: &str) -> Result<Option<String>> {
        let (project, scope, name) = (self.scope.project.clone(), scope.to_owned(), name.to_owned());
        self.read(move |tx| {
            tx.row(
                "SELECT value FROM kv WHERE project = $1 AND scope = $2 AND name = $3",
                params![&project, &scope, &name],
            )
        })
        .await
    }

    /// Sets a value; one that is set already costs no write.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn kv_set(&self, scope: &str, name: &str, value: &str) -> Result<()> {
        let (project, scope) = (self.scope.project.clone(), scope.to_owned());
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write(Durability::Durable, move |tx| {
            tx.execute(
                "INSERT INTO kv (project, scope, name, value) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (project, scope, name) DO UPDATE SET value = excluded.value WHERE kv.value <> excluded.value",
                params![&project, &scope, &name, &value],
            )?;
            Ok(())
        })
        .await
    }

    /// Sets a value that is not set yet; the one that is set now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn kv_first(&self, scope: &str, name: &str, value: &str) -> Result<String> {
        let (project, of) = (self.scope.project.clone(), scope.to_owned());
        let (named, first) = (name.to_owned(), value.to_owned());
        self.write(Durability::Durable, move |tx| {
            tx.execute(
                "INSERT INTO kv (project, scope, name, value) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (project, scope, name) DO NOTHING",
                params![&project, &of, &named, &first],
            )
        })
        .await?;
        Ok(self.kv_get(scope, name).await?.unwrap_or_else(|| value.to_owned()))
    }

    /// Removes a value; whether there was one.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn kv_remove(&self, scope: &str, name: &str) -> Result<bool> {
        let (project, scope, name) = (self.scope.project.clone(), scope.to_owned(), name.to_owned());
        self.write(Durability::Durable, move |tx| {
            let done = tx.execute(
                "DELETE FROM kv WHERE project = $1 AND scope = $2 AND name = $3",
                params![&project, &scope, &name],
            )?;
            Ok(done > 0)
        })
        .await
    }
}
