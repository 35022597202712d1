//! The description of the routes by `OpenAPI`, made from the types of their answers.

use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder, Schema,
};

use crate::clients::ClientsReport;
use crate::error::{ErrorReport, ROUTES};
use crate::groups::{GroupsReport, UpstreamsReport};
use crate::status::StatusReport;
use crate::upgrade_request::{UpgradeReport, UpgradeRequest};

/// The file that the gateway serves at `/openapi.json`.
const COMMITTED: &str = include_str!("../openapi.json");
/// Description of every answer with a status of 400 or more.
const REFUSED: &str = "The request was refused.";

fn content<T: ToSchema>() -> Content {
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(T::name())))
        .build()
}

fn answer<T: ToSchema>(description: &str) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content::<T>())
        .build()
}

fn operation<T: ToSchema>(id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .summary(Some(summary))
        .response("200", answer::<T>("The answer."))
        .response("default", answer::<ErrorReport>(REFUSED))
}

/// Adds the schema of a type, and those of the types inside of it.
fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// Describes the route of this description.
fn own() -> PathItem {
    let content = ContentBuilder::new().build();
    let answer = ResponseBuilder::new()
        .description("This description.")
        .content("application/json", content)
        .build();
    let operation = OperationBuilder::new()
        .operation_id(Some("openapi"))
        .summary(Some("This description."))
        .response("200", answer)
        .response("default", self::answer::<ErrorReport>(REFUSED));
    PathItem::new(HttpMethod::Get, operation.build())
}

fn read<T: ToSchema>(id: &str, summary: &str) -> PathItem {
    PathItem::new(HttpMethod::Get, operation::<T>(id, summary).build())
}

fn upgrade() -> Operation {
    let body = RequestBodyBuilder::new()
        .content("application/json", content::<UpgradeRequest>())
        .build();
    operation::<UpgradeReport>("upgrade", "Replace the process by a new one.")
        .request_body(Some(body))
        .build()
}

/// Makes the description.
fn document() -> OpenApi {
    let paths = PathsBuilder::new()
        .path("/status", read::<StatusReport>("status", "The process."))
        .path("/groups", read::<GroupsReport>("groups", "The groups."))
        .path(
            "/upstreams",
            read::<UpstreamsReport>("upstreams", "The upstreams of all groups."),
        )
        .path("/clients", read::<ClientsReport>("clients", "The clients."))
        .path("/openapi.json", own())
        .path("/upgrade", PathItem::new(HttpMethod::Post, upgrade()))
        .build();
    let mut schemas = Vec::new();
    add::<StatusReport>(&mut schemas);
    add::<GroupsReport>(&mut schemas);
    add::<UpstreamsReport>(&mut schemas);
    add::<ClientsReport>(&mut schemas);
    add::<UpgradeRequest>(&mut schemas);
    add::<UpgradeReport>(&mut schemas);
    add::<ErrorReport>(&mut schemas);
    let components = ComponentsBuilder::new().schemas_from_iter(schemas).build();
    let info = InfoBuilder::new()
        .title("Portcullis admin socket")
        .description(Some("HTTP on the unix socket `gateway.admin.socket`."))
        .version("1")
        .build();
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .build()
}

#[test]
fn the_committed_description_is_current() {
    let text = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("WRITE_OPENAPI").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json"), &text).unwrap();
        return;
    }
    assert_eq!(
        COMMITTED, text,
        "run `WRITE_OPENAPI=1 cargo test -p admin openapi`"
    );
}

#[test]
fn the_description_has_the_routes_that_errors_name() {
    let described = serde_json::to_value(document()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut named: Vec<&str> = ROUTES.split(", ").collect();
    routes.sort_unstable();
    named.sort_unstable();
    assert_eq!(routes, named);
}

/// Adds the names of all schemas that a part of the description refers to.
fn references(part: &serde_json::Value, found: &mut Vec<String>) {
    if let Some(fields) = part.as_object() {
        let reference = fields.get("$ref").and_then(|reference| reference.as_str());
        let name = reference.and_then(|path| path.strip_prefix("#/components/schemas/"));
        found.extend(name.map(str::to_owned));
        fields.values().for_each(|value| references(value, found));
    }
    let items = part.as_array();
    items
        .into_iter()
        .flatten()
        .for_each(|item| references(item, found));
}

#[test]
fn every_schema_that_the_description_refers_to_is_in_it() {
    let described = serde_json::to_value(document()).unwrap();
    let mut found = Vec::new();
    references(&described, &mut found);
    assert!(found.contains(&"ReloadStatus".to_owned()), "{found:?}");
    for name in found {
        assert!(
            described["components"]["schemas"].get(&name).is_some(),
            "{name}"
        );
    }
}
