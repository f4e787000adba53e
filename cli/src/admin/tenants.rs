//! `ffrtmp tenants`: how many jobs each may run at once.

use ffrtmp_api::{Tenant, TenantEdit, TenantList};
use reqwest::Method;

use super::args::{TenantsArgs, TenantsVerb};
use crate::args::Format;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::{Output, Rows, harmless, or_dash};

/// Does what was typed.
pub async fn tenants(args: TenantsArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(&args.remote)?;
    let tenants = match args.verb {
        TenantsVerb::List => client.get::<TenantList>(&["tenants"], &[]).await?.tenants,
        TenantsVerb::Set {
            name, max_running, ..
        } => {
            let edit = TenantEdit { max_running };
            let path = ["tenants", name.as_str()];
            let tenant: Tenant = client.order(Method::PUT, &path, Some(&edit)).await?;
            vec![tenant]
        }
    };
    if output.format() == Format::Json {
        output.json(&TenantList { tenants })?;
        return Ok(ExitCode::Success);
    }
    let mut rows = Rows::new(&["TENANT", "RUNNING", "MOST"]);
    for tenant in &tenants {
        rows.push(vec![
            harmless(&tenant.name),
            tenant.running.to_string(),
            or_dash(tenant.max_running, |cap| cap.to_string()),
        ]);
    }
    output.rows(&rows)?;
    Ok(ExitCode::Success)
}
