//! `runner` blocks: where programs of steps run.

use super::schema::{ContainerValues, JobValues, RunnerValues};
use super::{Block, Loader, Reader, text_map};
use windlass_model::definition::Runner;
use windlass_model::place::{Container, Job, Place, Pull, mount};

impl Loader<'_> {
    /// A runner with a mistake in it is left out; nothing is run while there is one.
    pub(super) fn runner(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        let (RunnerValues { description }, mut reader) = self.read(file, block);
        if !super::is_label(&name) {
            reader.mistake("", "WL106", &format!("runner \"{name}\" is no label"), super::LABEL);
        }
        let places: Vec<&Block> =
            block.body.blocks.iter().filter(|b| matches!(b.kind.as_str(), "container" | "job")).collect();
        let place = match places.as_slice() {
            [one] if one.kind == "container" => self.container(file, one),
            [one] => self.job(file, one),
            [] => {
                let help =
                    "add `container { image = \"…\" }` or `job { image = \"…\" }`; a label of workers needs no block";
                self.mistake_at(file, block, "WL109", "runner needs a `container` or a `job` block", help);
                None
            }
            [_, second, ..] => {
                let what = format!("runner \"{name}\" says twice where its programs run");
                self.mistake_at(file, second, "WL104", &what, "keep one of the `container` and `job` blocks");
                None
            }
        };
        if let Some(place) = place {
            self.definitions.runners.push(Runner { name, description, place, span });
        }
    }

    fn container(&mut self, file: usize, block: &Block) -> Option<Place> {
        let (values, mut reader) = self.read::<ContainerValues>(file, block);
        let pull = pull(&mut reader, values.pull.as_deref());
        check_mounts(&mut reader, &values.mounts);
        Some(Place::Container(Container {
            image: image(&mut reader, values.image)?,
            user: values.user,
            network: values.network,
            memory_mib: values.memory,
            cpu_milli: values.cpu,
            environment: text_map(values.environment),
            mounts: values.mounts,
            pull: pull?,
        }))
    }

    fn job(&mut self, file: usize, block: &Block) -> Option<Place> {
        let (values, mut reader) = self.read::<JobValues>(file, block);
        Some(Place::Job(Job {
            image: image(&mut reader, values.image)?,
            namespace: values.namespace,
            service_account: values.service_account,
            memory_mib: values.memory,
            cpu_milli: values.cpu,
            environment: text_map(values.environment),
            volume_claim: values.volume_claim,
            node_selector: text_map(values.node_selector),
        }))
    }
}

/// When the image is fetched; `None` for a word that is not known, which was told then.
pub(super) fn pull(reader: &mut Reader<'_>, text: Option<&str>) -> Option<Pull> {
    let pull = text.map_or(Some(Pull::default()), Pull::parse);
    if pull.is_none() {
        let names = Pull::ALL.map(|pull| format!("\"{}\"", pull.as_str())).join(", ");
        let help = format!("it is one of {names}; \"missing\" is the default");
        reader.mistake("pull", "WL106", "`pull` says nothing that is known", &help);
    }
    pull
}

pub(super) fn check_mounts(reader: &mut Reader<'_>, mounts: &[String]) {
    for wrong in mounts.iter().filter(|text| mount(text).is_none()) {
        let what = format!("`{wrong}` is no mount");
        let help = "write \"/HOST:/INSIDE\" or \"/HOST:/INSIDE:ro\", with whole paths";
        reader.mistake("mounts", "WL106", &what, help);
    }
}

/// One that is not there was told already.
fn image(reader: &mut Reader<'_>, image: Option<String>) -> Option<String> {
    if image.as_ref().is_some_and(|image| image.trim().is_empty()) {
        reader.mistake("image", "WL106", "`image` names none", "write it as `docker pull` and `podman pull` take it");
        return None;
    }
    image
}
