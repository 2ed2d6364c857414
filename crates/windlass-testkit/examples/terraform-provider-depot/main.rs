//! A terraform provider for tests: its items are files, which a test can change behind terraform's back, and which it can make
//! slow, failing or deadly. It speaks version 6 of the provider protocol
//! (<https://developer.hashicorp.com/terraform/plugin/terraform-plugin-protocol>) by itself, so that building it needs nothing but
//! cargo. With `--list` it prints all items instead.

mod provider;
mod wire;
mod world;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "--list") {
        println!("{}", world::World::of_home().list());
        return Ok(());
    }
    if std::env::var_os("TF_PLUGIN_MAGIC_COOKIE").is_none() {
        return Err("this is a provider: terraform starts it".into());
    }
    serve().await
}

/// The handshake of the plugin system
/// (<https://github.com/hashicorp/go-plugin/blob/main/docs/guide-plugin-write-non-go.md>), then every connection until terraform
/// says that it is over.
async fn serve() -> Result<(), Failure> {
    let directory = std::env::var_os("PLUGIN_UNIX_SOCKET_DIR").map_or_else(std::env::temp_dir, Into::into);
    let socket = directory.join(format!("depot-{}", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&socket)?;
    let (mut acceptor, mut certificate) = (None, String::new());
    if std::env::var_os("PLUGIN_CLIENT_CERT").is_some() {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![signed.cert.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        acceptor = Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        certificate = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, signed.cert.der());
    }
    println!("1|6|unix|{}|grpc|{certificate}", socket.display());
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        let socket = socket.clone();
        tokio::spawn(async move {
            let ended = match acceptor {
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => connection(stream, &socket).await,
                    Err(error) => Err(error.into()),
                },
                None => connection(stream, &socket).await,
            };
            if let Err(error) = ended {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

/// gRPC over HTTP/2, calls with one message each way.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, socket: &std::path::Path) -> Result<(), Failure> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut over = false;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = match accepted {
            Ok(accepted) => accepted,
            // However terraform ends a connection that is over.
            Err(_) if over => break,
            Err(error) => return Err(error.into()),
        };
        let path = request.uri().path().to_owned();
        if path == "/plugin.GRPCController/Shutdown" {
            over = true;
            reply(respond, Some(Vec::new()))?;
            connection.graceful_shutdown();
            continue;
        }
        tokio::spawn(async move {
            if let Err(error) = call(&path, request, respond).await {
                eprintln!("{path}: {error}");
            }
        });
    }
    if over {
        // The socket would stay behind.
        let _ = std::fs::remove_file(socket);
        std::process::exit(0);
    }
    Ok(())
}

async fn call(
    path: &str,
    request: Request<h2::RecvStream>,
    respond: h2::server::SendResponse<Bytes>,
) -> Result<(), Failure> {
    let Some(method) = path.strip_prefix("/tfplugin6.Provider/") else { return reply(respond, None) };
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    // A byte that tells whether it is compressed (it never is here), four of length.
    let mut framed = message.as_slice();
    if framed.len() < 5 {
        return Err("a message without its length".into());
    }
    framed.advance(5);
    reply(respond, provider::answer(method, framed).await)
}

/// `None` says that there is no such method.
fn reply(mut respond: h2::server::SendResponse<Bytes>, message: Option<Vec<u8>>) -> Result<(), Failure> {
    let head = Response::builder().header("content-type", "application/grpc");
    let Some(message) = message else {
        respond.send_response(head.header("grpc-status", "12").body(())?, true)?;
        return Ok(());
    };
    let mut stream = respond.send_response(head.body(())?, false)?;
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    stream.send_data(framed.into(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}
