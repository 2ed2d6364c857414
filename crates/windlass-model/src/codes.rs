//! The catalogue of diagnostic codes. Each has a page in `docs/codes/`, shown by `windlass explain CODE`.

macro_rules! pages {
    ($($code:ident,)*) => {
        &[$((stringify!($code), include_str!(concat!("../../../docs/codes/", stringify!($code), ".md")))),*]
    };
}

static PAGES: &[(&str, &str)] = pages![
    WL101, WL102, WL103, WL104, WL105, WL106, WL107, WL108, WL109, WL110, WL111, WL112, WL113, WL114, WL120, WL121,
    WL122, WL123, WL124, WL125, WL126, WL127, WL128, WL129, WL130, WL201, WL202, WL203, WL204, WL205, WL207, WL210,
    WL211, WL212, WL213, WL214, WL215, WL216, WL217, WL230, WL301, WL302, WL303, WL304, WL305, WL306, WL307, WL401,
    WL402, WL403, WL404, WL405, WL406, WL407, WL410, WL411, WL412, WL413, WL414, WL415, WL416, WL430, WL431, WL432,
    WL433, WL434, WL435, WL436, WL437, WL438, WL445, WL446, WL450, WL451, WL452, WL453, WL454, WL455, WL460, WL461,
    WL462, WL463, WL470, WL471, WL472, WL473, WL475, WL501, WL502, WL503, WL504, WL505, WL506, WL507, WL508, WL509,
    WL510, WL511, WL512, WL513, WL514, WL515, WL516, WL517, WL518, WL519, WL520, WL521, WL530, WL531, WL532, WL533,
    WL534, WL535, WL536, WL537, WL538, WL539, WL540, WL541, WL542, WL543, WL544, WL545, WL547, WL548, WL601, WL602,
    WL603, WL604, WL605, WL606, WL607, WL608, WL609, WL610, WL611, WL612, WL613, WL614, WL615, WL616, WL617, WL620,
    WL621, WL622, WL623, WL624, WL625, WL626, WL627, WL628, WL629, WL640, WL641, WL642, WL643, WL644, WL645, WL646,
    WL647, WL648, WL649, WL650, WL651, WL652, WL653, WL654, WL655, WL656, WL657, WL660, WL661, WL662, WL663, WL665,
    WL666, WL667, WL668, WL669, WL670, WL671, WL672, WL680, WL681, WL682, WL683, WL684, WL685, WL686, WL687, WL688,
    WL689, WL690, WL691, WL701, WL702, WL703, WL704, WL705, WL706, WL707, WL710, WL720, WL721, WL722, WL723, WL724,
    WL725, WL726, WL727, WL740, WL741, WL742, WL743, WL744, WL745, WL746, WL747, WL748, WL760, WL761, WL762, WL765,
    WL770, WL771, WL772, WL773, WL780, WL781, WL782, WL783, WL784, WL787, WL801, WL802, WL803, WL804, WL805, WL806,
    WL807, WL808, WL820, WL821, WL822, WL823, WL825, WL826, WL827, WL828, WL829, WL830, WL831, WL832, WL833, WL834,
    WL835, WL839, WL840, WL841, WL842, WL843, WL844, WL845, WL846, WL847, WL848, WL849, WL850, WL860, WL861, WL862,
    WL863, WL870, WL871, WL872, WL873, WL874, WL875, WL876, WL877, WL878, WL879, WL880, WL881, WL882, WL883, WL884,
    WL885, WL886, WL887, WL888, WL890, WL891, WL892, WL893, WL894, WL895, WL900, WL901, WL902, WL903, WL904, WL905,
    WL906, WL907, WL908, WL909, WL915, WL916, WL920, WL921, WL922, WL999,
];

/// Every code with its page (Markdown), sorted.
pub fn all() -> &'static [(&'static str, &'static str)] {
    PAGES
}

/// The page of a code, e.g. `WL201`.
pub fn explain(code: &str) -> Option<&'static str> {
    PAGES.binary_search_by(|(known, _)| known.cmp(&code)).ok().map(|index| PAGES[index].1)
}

/// What a page is about, from its first line: `# WL201: syntax error` is about `syntax error`.
pub fn title(page: &str) -> &str {
    let first = page.lines().next().unwrap_or_default();
    first.split_once(": ").map_or(first, |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn sources(directory: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_page_is_listed_and_every_code_has_a_page() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let listed: BTreeSet<String> = all().iter().map(|(code, _)| (*code).to_owned()).collect();
        let pages: BTreeSet<String> = std::fs::read_dir(root.join("docs/codes"))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().trim_end_matches(".md").to_owned())
            .collect();
        assert_eq!(listed, pages);
        let mut texts = Vec::new();
        for krate in std::fs::read_dir(root.join("crates")).unwrap() {
            sources(&krate.unwrap().path().join("src"), &mut texts);
        }
        let used: BTreeSet<String> = texts
            .iter()
            .flat_map(|text| text.match_indices("\"WL").filter_map(|(at, _)| text.get(at + 1..at + 6)))
            .filter(|code| code[2..].bytes().all(|b| b.is_ascii_digit()))
            .map(str::to_owned)
            .collect();
        assert!(used.is_subset(&listed), "without a page: {:?}", used.difference(&listed).collect::<Vec<_>>());
        for (code, page) in all() {
            assert!(page.starts_with(&format!("# {code}: ")) && page.contains("**To mend it**: "), "{code}");
        }
        assert!(all().is_sorted());
    }
}
