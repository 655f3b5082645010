//! From settings to an [`Endpoint`]: the keys that say where the broker is and how to reach it.

use std::net::IpAddr;
use std::path::PathBuf;

use super::address::{self, Address, Scheme};
use super::keys::ConfigKey;
use super::settings::{Setting, Settings};
use super::{BrokerAddress, Endpoint, Node, Proxy, proxy, tls};
use crate::Result;

/// The keys that a Unix socket has no use for.
const TCP_ONLY: [ConfigKey; 3] = [ConfigKey::Port, ConfigKey::Proxy, ConfigKey::BindAddress];

/// The endpoint that `ip`, `host` or `url` begins, if one of them is set, and that the other keys of the transport complete.
pub(super) fn parse(settings: &Settings<'_>, address: Option<(Setting<'_>, Address)>) -> Result<Endpoint> {
    let (found, url) = match address {
        Some((setting, found)) => (found, Some(setting)),
        None => (Address::local(), None),
    };
    let scheme = found.scheme;
    if let Some(setting) = tls::first_set(settings).filter(|_| !scheme.is_tls()) {
        return Err(setting.error(format!("`{}` needs TLS", setting.name)).hint(address::tls_hint()));
    }
    let address = match scheme {
        Scheme::Unix => BrokerAddress::Unix(socket(settings, &found)?),
        Scheme::Mqtt | Scheme::Mqtts | Scheme::Ws | Scheme::Wss => BrokerAddress::Tcp(nodes(settings, &found, url)?),
    };
    let web_socket = scheme.is_web_socket().then_some(found.path);
    let tls = if scheme.is_tls() { Some(tls::options(settings)?) } else { None };
    Ok(Endpoint { address, tls, web_socket, proxy: proxy(settings)?, bind_address: bind_address(settings)? })
}

/// The path of a Unix socket, which has nothing that TCP has.
fn socket(settings: &Settings<'_>, address: &Address) -> Result<PathBuf> {
    if let Some(setting) = TCP_ONLY.iter().find_map(|key| settings.get(*key)) {
        return Err(setting.error(format!("a Unix socket has no `{}`", setting.name)));
    }
    Ok(address.hosts.first().map(|(path, _)| path.into()).unwrap_or_default())
}

/// The nodes with their ports: each has its own, that of `port`, or the scheme's.
fn nodes(settings: &Settings<'_>, address: &Address, url: Option<Setting<'_>>) -> Result<Vec<Node>> {
    let own = settings.get(ConfigKey::Port);
    let port = own.map(|setting| address::port(setting.value).map_err(|why| setting.invalid(why))).transpose()?;
    let all_ported = address.hosts.iter().all(|(_, port)| port.is_some());
    if let (Some(own), Some(url)) = (own, url)
        && all_ported
        && url.on_command_line() == own.on_command_line()
    {
        return Err(own.error(format!("{} already contains a port", url.shown())));
    }
    // The command line decides between the two, as it does everywhere.
    let overrides = own.is_some_and(|own| own.on_command_line()) && !url.is_some_and(|url| url.on_command_line());
    let default = port.unwrap_or(address.scheme.default_port());
    let mut nodes: Vec<Node> = Vec::new();
    for (host, port) in &address.hosts {
        let node = Node { host: host.clone(), port: port.filter(|_| !overrides).unwrap_or(default) };
        if let Some(url) = url.filter(|_| nodes.contains(&node)) {
            return Err(url.error(format!("`{node}` occurs twice in `{}`", url.name)));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// `proxy`, a URL of its own.
fn proxy(settings: &Settings<'_>) -> Result<Option<Proxy>> {
    let Some(setting) = settings.get(ConfigKey::Proxy) else { return Ok(None) };
    proxy::parse(setting.value).map(Some).map_err(|why| setting.invalid(why))
}

/// `bind_address`, which must be an address and no name.
fn bind_address(settings: &Settings<'_>) -> Result<Option<IpAddr>> {
    let Some(setting) = settings.get(ConfigKey::BindAddress) else { return Ok(None) };
    setting.value.parse().map(Some).map_err(|_| setting.invalid("must be an IPv4 or IPv6 address of this device"))
}
