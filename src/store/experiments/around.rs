//! What a design is checked against: its flag, the flag's rules, the layers, the segments.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;
use uuid::Uuid;

use super::rows::small;
use crate::domain::check::ExperimentSurroundings;
use crate::domain::experiment::{self, LayerPart, LayerShare};
use crate::domain::flag::{Configuration, Definition};
use crate::domain::form;
use crate::domain::invalid::Violations;
use crate::store::error::Error;
use crate::store::rows;

/// The flag of a key ($3), or of an experiment ($4), with its configuration in the environment.
pub(super) const FLAG: &str = "
    select f.id, f.key, f.form, f.archived_at, c.form as configuration_form
    from projects p
    join environments v on v.project_id = p.id and v.key = $2
    join flags f on f.project_id = p.id
    left join flag_configurations c on c.environment_id = v.id and c.flag_id = f.id
    where p.key = $1 and (f.key = $3
        or f.id = (select e.flag_id from experiments e where e.environment_id = v.id and e.key = $4))";
pub(super) const LAYERS: &str = "
    select l.id, l.key, l.attribute, l.salt
    from projects p
    join environments v on v.project_id = p.id
    join layers l on l.environment_id = v.id
    where p.key = $1 and v.key = $2";
/// Which parts of layers are taken, and by whom.
pub(super) const TAKEN: &str = "
    select e.layer_id, e.key, e.layer_start, e.layer_end
    from projects p
    join environments v on v.project_id = p.id
    join experiments e on e.environment_id = v.id
    where p.key = $1 and v.key = $2 and e.layer_start is not null";
pub(super) const SEGMENTS: &str =
    "select s.key from segments s join projects p on p.id = s.project_id where p.key = $1";

/// What there is around a design.
pub(super) struct Around {
    pub(super) flag: Definition,
    pub(super) configuration: Option<Configuration>,
    layers: HashMap<String, Option<String>>,
    places: HashMap<String, Place>,
    segments: HashSet<String>,
}

/// A layer, and what of it is taken.
struct Place {
    id: i64,
    salt: Uuid,
    taken: Vec<(String, (u32, u32))>,
}

impl Around {
    /// From the row of the flag, and the rows of [`LAYERS`], [`TAKEN`] and [`SEGMENTS`].
    pub(super) fn read(flag: &Row, [layers, taken, segments]: [&[Row]; 3]) -> Result<Self, Error> {
        let definition = form::read_definition(rows::get(flag, "form")?);
        let configuration = rows::get::<Option<&[u8]>>(flag, "configuration_form")?.map(form::read_configuration);
        let mut places: HashMap<String, Place> = HashMap::new();
        let mut attributes = HashMap::new();
        for row in layers {
            let (id, key): (i64, String) = (rows::get(row, "id")?, rows::get(row, "key")?);
            let mut of_layer = Vec::new();
            for row in taken {
                if rows::get::<i64>(row, "layer_id")? == id {
                    let range = (small(row, "layer_start")?, small(row, "layer_end")?);
                    of_layer.push((rows::get(row, "key")?, range));
                }
            }
            attributes.insert(key.clone(), rows::get(row, "attribute")?);
            let salt = rows::get(row, "salt")?;
            let place = Place {
                id,
                salt,
                taken: of_layer,
            };
            places.insert(key, place);
        }
        let segments = segments.iter().map(|row| rows::get(row, "key"));
        Ok(Self {
            flag: definition.map_err(|error| rows::corrupt("form", error))?,
            configuration: configuration
                .transpose()
                .map_err(|error| rows::corrupt("configuration_form", error))?,
            layers: attributes,
            places,
            segments: segments.collect::<Result<_, _>>()?,
        })
    }

    /// The same, as a check takes it.
    pub(super) fn borrow(&self) -> ExperimentSurroundings<'_> {
        ExperimentSurroundings {
            flag: &self.flag,
            rules: self.configuration.as_ref().map_or(&[], |it| &it.rules),
            layers: &self.layers,
            segments: &self.segments,
        }
    }

    /// The layer of a share, and a part of it that is free or the experiment's own.
    pub(super) fn place(
        &self,
        experiment: &str,
        share: &LayerShare,
        own: Option<LayerPart>,
    ) -> Result<(i64, LayerPart), Violations> {
        let unknown = || Violations::one("layer", "is not a layer of the environment");
        let Place { id, salt, taken } = self.places.get(share.layer.as_str()).ok_or_else(unknown)?;
        if let Some(own) = own.filter(|own| own.salt == *salt && own.end - own.start == share.share) {
            return Ok((*id, own));
        }
        let others = taken.iter().filter(|(of, _)| of != experiment);
        let others: Vec<_> = others.map(|(_, range)| *range).collect();
        let (start, end) = experiment::room(&others, share.share).map_err(|largest| {
            Violations::one(
                "layer_share_millionths",
                format!(
                    "is more than layer {} has left: {largest} millionths in one piece; stop an experiment of it, or take less",
                    share.layer
                ),
            )
        })?;
        let salt = *salt;
        Ok((*id, LayerPart { salt, start, end }))
    }
}
