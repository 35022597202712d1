//! Brings the tables of keys in `docs/policy.md` up to date.
//!
//! ```sh
//! cargo run -p policy --example reference <docs/policy.md >page.md && mv page.md docs/policy.md
//! ```

use std::error::Error;
use std::io::{self, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let page = io::read_to_string(io::stdin())?;
    io::stdout().write_all(policy::reference(&page)?.as_bytes())?;
    Ok(())
}
