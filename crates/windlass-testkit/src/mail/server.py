"""An SMTP server that keeps what it takes: one file of JSON for each message, in the folder it is given.

Arguments: folder, `plain`, `starttls` or `tls`, certificate, key, and user and password where it asks for them.
A recipient `nobody@…` does not exist, and `later@…` is not to be had now.
"""

import asyncio
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder, manner, certificate, key = sys.argv[1:5]
account = tuple(sys.argv[5:7])
context = None
if manner != "plain":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)


class Box:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such user"
        if address.startswith("later@"):
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        Box.count += 1
        message = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode("utf-8", "replace"),
            "encrypted": session.ssl is not None or manner == "tls",
            "user": session.auth_data.login.decode() if session.authenticated else None,
        }
        path = os.path.join(folder, f"{Box.count:04}.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(message, file)
        os.rename(path + ".part", path)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == account
    return AuthResult(success=good, auth_data=data)


def protocol():
    return SMTP(
        Box(),
        tls_context=context if manner == "starttls" else None,
        require_starttls=manner == "starttls",
        authenticator=authenticate if account else None,
        auth_required=bool(account),
        auth_require_tls=manner == "starttls",
    )


async def serve():
    tls = context if manner == "tls" else None
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
