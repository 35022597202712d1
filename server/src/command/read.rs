//! `portcullis status`, `groups`, `upstreams` and `clients`: what the running gateway says of
//! itself.

use std::fmt;
use std::process::ExitCode;

use admin::{
    ClientsReport, ClientsTable, GroupsReport, GroupsTable, StatusLines, StatusReport,
    UpstreamsReport, UpstreamsTable,
};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admin_socket::{SocketArguments, next_step};
use super::output::{AnswerFormat, fail};

/// Commands that read from the running gateway, through its admin socket.
#[derive(Debug, Subcommand)]
pub(super) enum ReadCommand {
    /// Show the state of the running gateway: its process, the last reload, its connections.
    Status(ReadArguments),
    /// List the groups of the running gateway, those without an available upstream first.
    Groups(ReadArguments),
    /// List the upstreams of the running gateway with their health, those that are down first.
    Upstreams(ReadArguments),
    /// List the clients of the running gateway with their connections, those that wait or are near
    /// their limit first.
    Clients(ReadArguments),
}

#[derive(Debug, Args)]
pub(super) struct ReadArguments {
    #[command(flatten)]
    socket: SocketArguments,
    #[command(flatten)]
    format: AnswerFormat,
}

pub(super) fn read(command: &ReadCommand) -> ExitCode {
    match command {
        ReadCommand::Status(arguments) => show(arguments, "/status", |report: StatusReport| {
            StatusLines(report)
        }),
        ReadCommand::Groups(arguments) => show(arguments, "/groups", |report: GroupsReport| {
            GroupsTable::new(report)
        }),
        ReadCommand::Upstreams(arguments) => {
            show(arguments, "/upstreams", |report: UpstreamsReport| {
                UpstreamsTable::new(report)
            })
        }
        ReadCommand::Clients(arguments) => show(arguments, "/clients", |report: ClientsReport| {
            ClientsTable::new(report)
        }),
    }
}

fn show<R: DeserializeOwned, T: fmt::Display + Serialize>(
    arguments: &ReadArguments,
    path: &str,
    table: impl Fn(R) -> T,
) -> ExitCode {
    let socket = match arguments.socket.path() {
        Ok(socket) => socket,
        Err(error) => return fail(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(admin::read(&socket, path)),
        Err(error) => return fail(&error),
    };
    match answer {
        Ok(report) => {
            arguments.format.print(&table(report));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&next_step(&error)),
    }
}
