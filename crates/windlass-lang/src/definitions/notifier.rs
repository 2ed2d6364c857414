//! `notifier`, `host_set` and `service` blocks.

use super::operation_schema::{
    BotValues, EmailValues, HostSetValues, NotifierValues, ServiceValues, SignedValues, WebhookValues,
};
use super::{Block, Loader};
use windlass_model::operation::{HostSet, Notifier, NotifyChannel, ServiceDefinition};

/// Blocks that say where messages go.
const CHANNELS: [&str; 4] = ["webhook", "bot", "email", "signed"];

impl Loader<'_> {
    pub(super) fn notifier(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.label(file, block, "") else { return };
        let (NotifierValues {}, mut reader) = self.read(file, block);
        let channels: Vec<&Block> =
            block.body.blocks.iter().filter(|inner| CHANNELS.contains(&inner.kind.as_str())).collect();
        if channels.len() != 1 {
            let what = format!("a notifier writes to one place, this one to {}", channels.len());
            reader.mistake("", "WL107", &what, &format!("give one of the blocks {}", CHANNELS.join(", ")));
        }
        let within = format!("notifier {name}/");
        let secrets = block.body.blocks.iter().filter(|inner| inner.kind == "secret");
        let secrets = secrets.filter_map(|inner| self.secret(file, inner, &within)).collect();
        let channel = channels.first().and_then(|inner| self.channel(file, inner));
        if let Some(channel) = channel {
            self.definitions.notifiers.push(Notifier { name, secrets, channel, span });
        }
    }

    fn channel(&mut self, file: usize, block: &Block) -> Option<NotifyChannel> {
        Some(match block.kind.as_str() {
            "webhook" => NotifyChannel::Webhook { url: self.read::<WebhookValues>(file, block).0.url? },
            "bot" => {
                let (values, _) = self.read::<BotValues>(file, block);
                NotifyChannel::Bot { api: values.api, token: values.token?, channel: values.channel? }
            }
            "email" => {
                let (values, _) = self.read::<EmailValues>(file, block);
                NotifyChannel::Email { smtp: values.smtp?, from: values.from?, to: values.to }
            }
            _ => {
                let (values, _) = self.read::<SignedValues>(file, block);
                NotifyChannel::Signed { url: values.url?, key: values.key? }
            }
        })
    }

    pub(super) fn host_set(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.label(file, block, "") else { return };
        let (HostSetValues { members }, mut reader) = self.read(file, block);
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = members.iter().find(|member| !seen.insert(member.as_str())) {
            reader.mistake("members", "WL106", &format!("host `{twice}` is there twice"), "remove one of them");
        }
        self.definitions.host_sets.push(HostSet { name, members, span });
    }

    pub(super) fn service(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.label(file, block, "") else { return };
        let (ServiceValues { description, owner }, _) = self.read(file, block);
        self.definitions.services.push(ServiceDefinition { name, description, owner, span });
    }
}
