# SPDX-License-Identifier: Apache-2.0
"""A mail provider for the suite: TLS from the first byte, a login, and a memory of what it got."""

import os
import socketserver
import ssl
import subprocess
import threading


class Provider:
    """Listens on an address of this machine, at any port."""

    USER, PASSWORD = 'gateway@example.com', 'Correct-Horse-7'

    def __init__(self, address, folder):
        self.address, self.messages, self.refusing = address, [], False
        self.authority = os.path.join(folder, 'ca.pem')
        key = os.path.join(folder, 'key.pem')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                        '-days', '30', '-subj', '/CN=provider', '-addext', f'subjectAltName=IP:{address}', '-addext', 'basicConstraints=critical,CA:FALSE',
                        '-keyout', key, '-out', self.authority], check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority, key)
        provider = self

        class Session(socketserver.StreamRequestHandler):
            """One connection."""

            def handle(self):
                try:
                    self.talk()
                except OSError:
                    pass  # the gateway ended, or the network went down

            def talk(self):
                """RFC 5321, as much as is needed."""
                if provider.refusing:
                    return
                with context.wrap_socket(self.request, server_side=True) as tls:
                    provider.converse(tls.makefile('rwb'), tls.version())

        class Server(socketserver.ThreadingTCPServer):
            """A thread for each connection."""
            daemon_threads = allow_reuse_address = True

        self.server = Server((address, 0), Session)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def converse(self, wire, version):
        """One conversation on a protected connection."""
        def say(text):
            wire.write(text.encode() + b'\r\n')
            wire.flush()

        login, sender, recipients = False, '', []
        say('220 provider ESMTP')
        for raw in wire:
            if self.refusing:
                return  # a connection that was kept open, too
            line = raw.decode(errors='replace').rstrip('\r\n')
            verb = line.split(' ')[0].upper()
            if verb == 'EHLO':
                say('250-provider\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN')
            elif verb == 'AUTH':
                words = line.split(' ')
                if words[1].upper() == 'PLAIN' and len(words) == 3:
                    login = self.fits(words[2])
                else:
                    say('334 ' if words[1].upper() == 'PLAIN' else '334 VXNlcm5hbWU6')
                    login = self.fits(wire.readline().decode().strip())
                say('235 welcome' if login else '535 wrong login')
            elif verb == 'MAIL':
                sender, recipients = line, []
                say('250 ok' if login else '530 log in first')
            elif verb == 'RCPT':
                recipients.append(line)
                say('250 ok' if login else '530 log in first')
            elif verb == 'DATA' and login:
                say('354 go on')
                text = b''
                for part in wire:
                    if part == b'.\r\n':
                        break
                    text += part
                self.messages.append((version, sender, recipients, text.decode(errors='replace')))
                say('250 taken')
            elif verb == 'QUIT':
                say('221 bye')
                return
            else:
                say('250 ok' if verb in ('NOOP', 'RSET') else '500 what?')

    def fits(self, answer):
        """Whether AUTH PLAIN names the login (RFC 4616)."""
        import base64
        return base64.b64decode(answer).split(b'\0')[1:] == [self.USER.encode(), self.PASSWORD.encode()]

    def got(self, word):
        """The messages with this word in their text."""
        return [message for message in list(self.messages) if word in message[3]]
