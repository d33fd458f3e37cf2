//! The JSON schema of the file, for editors.

use schemars::schema_for;

use super::Config;

/// The schema, as it is kept in `packaging/steer.schema.json`.
pub fn schema() -> String {
    let schema = schema_for!(Config);
    // A schema is a JSON value, which can always be written.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
