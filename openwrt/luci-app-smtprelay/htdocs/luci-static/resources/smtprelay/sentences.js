// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.text as text';

/*
 * What the daemon says, in the language of the page and with the names that options have there. The daemon speaks English
 * to the log and to the command line; its sentence is the code, and what it was filled in with are the parameters. The
 * sentences are those of its sources (tests/luci/daemon.mjs compares them).
 *
 * %s stands for what is filled in. A sentence that is not in the list is shown as it is.
 */

/** Sentences of the daemon, and what the page says instead. */
const SENTENCES = /** @type {[string, () => string][]} */ ([
	[ 'account \'%s\' has no password, so its mail stays in the queue: store one with smtprelay password %s, or set option password', () => _('Account \'%s\' has no password, so its mail stays in the queue: enter one below, or run smtprelay password %s.') ],
	[ 'channel \'%s\' has no token, so its messages stay in the queue: store one with smtprelay password %s, or set option token; %s', () => _('Channel \'%s\' has no token, so its messages stay in the queue: run smtprelay password %s; %s') ],
	[ 'account \'%s\' is not configured yet and is not used', () => _('account \'%s\' is not configured yet and is not used') ],
	[ 'an account needs a name: write config account \'provider\'', () => _('an account needs a name: write config account \'provider\'') ],
	[ 'option host is missing: the provider\'s mail server, such as smtp.example.com; or set option provider to one that \'smtprelay providers\' lists', () => _('the mail server is missing, such as smtp.example.com; or select a provider') ],
	[ 'the host %s needs option region, such as eu-central-1', () => _('the mail server %s needs a region, such as eu-central-1') ],
	[ 'option host \'%s\' is not a host name', () => _('the mail server \'%s\' is not a hostname') ],
	[ 'option from \'%s\' is not a mail address such as me@example.com', () => _('the sender address \'%s\' is not a mail address such as me@example.com') ],
	[ 'option from is missing: the address that the provider allows as sender (the username is not an address)', () => _('the sender address is missing: the one that the provider allows (the username is not an address)') ],
	[ 'auth \'xoauth2\' without option username: the address of the mailbox', () => _('OAuth 2.0 needs a username: the address of the mailbox') ],
	[ 'option password without option username', () => _('there is a password, but no username') ],
	[ 'the stored password is not used without option username', () => _('the stored password is not used without a username') ],
	[ 'tls \'none\' with a username would send the password in clear text; use implicit or starttls', () => _('without encryption, the password would be sent in clear text; use implicit TLS or STARTTLS') ],
	[ 'tls \'none\': mail is sent to %s unencrypted and can be read on the network path', () => _('no encryption: mail is sent to %s unencrypted and can be read on the network path') ],
	[ 'verify \'0\': anyone on the network path to %s can read mail and password', () => _('the certificate is not verified: anyone on the network path to %s can read mail and password') ],
	[ 'port %s is unusual for this tls mode; implicit uses 465, starttls uses 587', () => _('port %s is unusual for this encryption; implicit TLS uses 465, STARTTLS uses 587') ],
	[ 'option oauth has no effect without option auth \'xoauth2\'', () => _('the authorization server has no effect without authentication by OAuth 2.0') ],
	[ 'auth \'xoauth2\' needs option oauth: \'google\', \'microsoft\' or \'custom\'', () => _('OAuth 2.0 needs an authorization server') ],
	[ 'option client_id is missing: create your own client at Google or Microsoft, see docs/guide/oauth.md', () => _('the client ID is missing: create your own client at Google or Microsoft') ],
	[ 'option client_secret is missing: Google shows it next to the client id', () => _('the client secret is missing: Google shows it next to the client ID') ],
	[ 'option token_url is missing: the URL of the server\'s token endpoint', () => _('the token URL is missing') ],
	[ 'option device_url or auth_url is missing: the address where a person signs in', () => _('the device authorization URL or the authorization URL is missing') ],
	[ 'option %s \'%s\' is not a URL such as https://login.example.com/path', () => _('option %s \'%s\' is not a URL such as https://login.example.com/path') ],
	[ 'option %s \'%s\' cannot be used: %s', () => _('option %s \'%s\' cannot be used: %s') ],
	[ 'option secrets \'%s\' cannot be used: %s', () => _('the secrets directory \'%s\' cannot be used: %s') ],
	[ 'no password or token can be stored', () => _('no password or token can be stored') ],
	[ 'no mail can be accepted, every message is answered with 451', () => _('no mail can be accepted, every message is answered with 451') ],
	[ 'no mail can be moved there, and queued mail is lost in a power cut', () => _('no mail can be moved there, and queued mail is lost in a power cut') ],
	[ 'the gateway cannot use it', () => _('the gateway cannot use it') ],
	[ 'other users can read the passwords and their key', () => _('other users can read the passwords and their key') ],
	[ 'other users can read the mail', () => _('other users can read the mail') ],
	[ 'option %s \'%s\' is on %s, which stores no owners and modes: it belongs to user %s with mode %s as it is mounted, so %s; mount it with the options uid=%s,gid=%s,umask=077, or name a directory on another file system', () => _('option %s \'%s\' is on %s, which stores no owners and modes: it belongs to user %s with mode %s as it is mounted, so %s; mount it with the options uid=%s,gid=%s,umask=077, or name a directory on another file system') ],
	[ '%s %s and can be read by other users (mode %s): run chmod 600 %s', () => _('%s %s and can be read by other users (mode %s): run chmod 600 %s') ],
	[ 'contains passwords', () => _('contains passwords') ],
	[ 'is a private key', () => _('is a private key') ],
	[ 'is a secret', () => _('is a secret') ],
	[ 'network %s is in firewall zone %s, which accepts connections from outside: outsiders can reach port %s. Set option input of that zone to REJECT, or use another network', () => _('network %s is in firewall zone %s, which accepts connections from outside: outsiders can reach port %s. Set option input of that zone to REJECT, or use another network') ],
	[ 'no message has been accepted for %s; one is expected every %s', () => _('no message has been accepted for %s; one is expected every %s') ],
	[ 'a message was accepted after %s of silence', () => _('a message was accepted after %s of silence') ],
	[ 'its expect_every was changed or removed', () => _('it is no longer expected to send, or less often') ],
	[ '%s must be a number', () => _('%s must be a number') ],
	[ 'there is no method \'%s\'', () => _('there is no method \'%s\'') ],
	[ 'the gateway is shutting down', () => _('the gateway is shutting down') ],
	[ 'no enabled account is named \'%s\'', () => _('no enabled account is named \'%s\'') ],
	[ 'there is no login \'%s\' in progress', () => _('there is no login \'%s\' in progress') ],
	[ 'there is no message %s in the queue', () => _('there is no message %s in the queue') ],
	[ 'there is no message %s in the queue to which this applies', () => _('there is no message %s in the queue to which this applies') ],
	[ 'message %s could not be changed; the log says why', () => _('message %s could not be changed; the log says why') ],
	[ 'message %s is being sent right now; try again', () => _('message %s is being sent right now; try again') ],
	[ 'after must be the value of next from an earlier page, not \'%s\'', () => _('after must be the value of next from an earlier page, not \'%s\'') ],
	[ 'account must be the name of an account', () => _('account must be the name of an account') ],
	[ 'password must be a string', () => _('password must be a string') ],
	[ 'account \'%s\' logs in with tokens, not with a password: smtprelay login %s', () => _('account \'%s\' logs in with tokens, not with a password: sign in as %s on the overview page') ],
	[ 'the password is stored, but account \'%s\' has an option password in the settings, which takes precedence; to use the stored one, run uci delete smtprelay.%s.password', () => _('the password is stored, but account \'%s\' has an option password in the settings, which takes precedence; to use the stored one, run uci delete smtprelay.%s.password') ],
	[ 'the gateway no longer has the right to read its settings, and procd cannot be notified (%s): run service smtprelay reload as root', () => _('the gateway no longer has the right to read its settings, and procd cannot be notified (%s): run service smtprelay reload as root') ],
	[ 'procd was notified of the new settings, but they were not applied: see the system log', () => _('procd was notified of the new settings, but they were not applied: see the system log') ],
	[ '\'%s\' is not a mail address; enter the recipient of the test mail', () => _('\'%s\' is not a mail address; enter the recipient of the test mail') ],
	[ 'account \'%s\' is already being tested (job %s); wait until that test ends', () => _('account \'%s\' is already being tested (job %s); wait until that test ends') ],
	[ '%s tests are in progress; wait until one ends', () => _('%s tests are in progress; wait until one ends') ],
	[ 'there is no test \'%s\'', () => _('there is no test \'%s\'') ],
	[ 'the program is shutting down', () => _('the program is shutting down') ],
	[ 'the test of account \'%s\' is in progress', () => _('the test of account \'%s\' is in progress') ],
	[ 'account \'%s\' works: the test mail was accepted', () => _('account \'%s\' works: the test mail was accepted') ],
	[ 'no account is set up: set provider, username and password of a section account', () => _('no account is set up: set one up on the overview page') ],
	[ 'no enabled account is named \'%s\'; enabled accounts: %s', () => _('no enabled account is named \'%s\'; enabled accounts: %s') ],
	[ 'it is held: release it with smtprelay queue release', () => _('it is held until it is released') ],
	[ 'it is being sent right now', () => _('it is being sent right now') ],
	[ 'message %s is already held', () => _('message %s is already held') ],
	[ 'message %s is not held', () => _('message %s is not held') ],
	[ 'message %s is held: release it with smtprelay queue release %s', () => _('message %s is held: release it first') ],
	[ 'Devices cannot connect: %s. %s', () => _('Devices cannot connect: %s. %s') ],
	[ 'Some devices cannot connect: %s. %s', () => _('Some devices cannot connect: %s. %s') ],
	[ 'devices cannot connect: %s', () => _('devices cannot connect: %s') ],
	[ 'listener \'%s\': %s', () => _('listener \'%s\': %s') ],
	[ 'it is not open', () => _('it is not open') ],
	[ 'network %s has no address at the moment', () => _('network %s has no address at the moment') ],
	[ 'networks %s have no address at the moment', () => _('networks %s have no address at the moment') ],
	[ 'listener \'%s\' cannot offer TLS: %s', () => _('listener \'%s\' cannot offer TLS: %s') ],
	[ 'listener \'%s\' already listens on %s', () => _('listener \'%s\' already listens on %s') ],
	[ 'cannot listen on %s: %s', () => _('cannot listen on %s: %s') ],
	[ 'cannot listen on %s: %s: another mail server is running on this port, stop it or choose another port', () => _('cannot listen on %s: %s: another mail server is running on this port, stop it or choose another port') ],
	[ 'cannot listen on %s: %s: this system denies it even to root', () => _('cannot listen on %s: %s: this system denies it even to root') ],
	[ 'cannot listen on %s: %s: ports below 1024 require root; run \'service smtprelay reload\' as root', () => _('cannot listen on %s: %s: ports below 1024 require root; run \'service smtprelay reload\' as root') ],
	[ 'cannot listen on %s: %s: no interface has this address at the moment', () => _('cannot listen on %s: %s: no interface has this address at the moment') ],
	[ 'it is ready to be sent', () => _('it is ready to be sent') ],
	[ 'it waits for its next attempt', () => _('it waits for its next attempt') ],
	[ 'account \'%s\' is not signed in: run smtprelay login %s', () => _('account \'%s\' is not signed in: sign in as %s on the overview page') ],
	[ 'no messages waiting', () => _('no messages waiting') ],
	[ '1 message waiting', () => _('1 message waiting') ],
	[ '%s messages waiting', () => _('%s messages waiting') ],
	[ '%s (%s held: smtprelay queue says why)', () => _('%s (%s held)') ],
	[ 'Not relaying, %s: no account is set up; set provider, username and password of a section account', () => _('Not relaying, %s: no account is set up') ],
	[ 'Not relaying, %s, next attempt in %s s: %s', () => _('Not relaying, %s, next attempt in %s s: %s') ],
	[ 'Not relaying, %s: %s', () => _('Not relaying, %s: %s') ],
	[ 'ca_file %s: %s', () => _('CA file %s: %s') ],
	[ 'cannot be read: %s', () => _('cannot be read: %s') ],
	[ 'is not a valid PEM file (%s)', () => _('is not a valid PEM file (%s)') ],
	[ 'contains a certificate that cannot be used as an authority (%s)', () => _('contains a certificate that cannot be used as an authority (%s)') ],
	[ 'contains no certificate (PEM, BEGIN CERTIFICATE)', () => _('contains no certificate (PEM, BEGIN CERTIFICATE)') ],
	[ 'no certificate authorities are installed, so no server certificate can be verified', () => _('no certificate authorities are installed, so no server certificate can be verified') ],
	[ 'install the package ca-bundle', () => _('install the package ca-bundle') ],
	[ 'check port and tls (465 implicit, 587 starttls)', () => _('check port and encryption (465 implicit TLS, 587 STARTTLS)') ],
	[ '%s aborted the TLS handshake with alert %s', () => _('%s aborted the TLS handshake with alert %s') ],
	[ '%s sent no certificate', () => _('%s sent no certificate') ],
	[ '%s violated the TLS protocol (%s)', () => _('%s violated the TLS protocol (%s)') ],
	[ 'TLS with %s failed: %s', () => _('TLS with %s failed: %s') ],
	[ 'TLS with %s failed (%s)', () => _('TLS with %s failed (%s)') ],
	[ 'TLS cannot be set up: %s', () => _('TLS cannot be set up: %s') ],
	[ 'TLS was not set up for this account', () => _('TLS was not set up for this account') ],
	[ 'the connection to %s was lost during the TLS handshake: %s', () => _('the connection to %s was lost during the TLS handshake: %s') ],
	[ '%s supports only TLS versions that are no longer secure', () => _('%s supports only TLS versions that are no longer secure') ],
	[ 'update the server to TLS 1.2 or newer, or ask the provider', () => _('update the server to TLS 1.2 or newer, or ask the provider') ],
	[ '%s supports no TLS parameters that are secure today (%s)', () => _('%s supports no TLS parameters that are secure today (%s)') ],
	[ 'update the server, or ask the provider', () => _('update the server, or ask the provider') ],
	[ 'the certificates that %s sends exceed 64 KB in total', () => _('the certificates that %s sends exceed 64 KB in total') ],
	[ '%s does not speak TLS on this port', () => _('%s does not speak TLS on this port') ],
	[ '%s sent an invalid TLS message (%s)', () => _('%s sent an invalid TLS message (%s)') ],
	[ 'check host and port, or ask the provider', () => _('check mail server and port, or ask the provider') ],
	[ 'check host and port', () => _('check mail server and port') ],
	[ 'check host and port; your own server needs a key of RSA with 2048 bits, ECDSA with P-256 or P-384, or Ed25519', () => _('check mail server and port; your own server needs a key of RSA with 2048 bits, ECDSA with P-256 or P-384, or Ed25519') ],
	[ 'check option host; another server may be impersonating the provider', () => _('check the mail server; another server may be impersonating the provider') ],
	[ 'for your own server, set ca_file or fingerprint; otherwise install ca-bundle; another server may be impersonating the provider', () => _('trust the certificate below if it is your own server; otherwise install the package ca-bundle; another server may be impersonating the provider') ],
	[ 'the server needs a current certificate (version 3, RSA of 2048 bits or ECDSA, SHA-256); for your own server, set fingerprint, which accepts the certificate as it is', () => _('the server needs a current certificate (version 3, RSA of 2048 bits or ECDSA, SHA-256); the fingerprint of your own server accepts the certificate as it is') ],
	[ 'for your own server, set fingerprint, which accepts the certificate as it is; otherwise ask the provider', () => _('the fingerprint of your own server accepts the certificate as it is; otherwise ask the provider') ],
	[ 'configure the server to send only its own certificate and the intermediate certificates', () => _('configure the server to send only its own certificate and the intermediate certificates') ],
	[ 'the certificate of %s is signed by an unknown authority (it is self-signed)', () => _('the certificate of %s is signed by an unknown authority (it is self-signed)') ],
	[ 'the certificate of %s is signed by an unknown authority%s, and it came alone: a server must also send its intermediate certificates', () => _('the certificate of %s is signed by an unknown authority%s, and it came alone: a server must also send its intermediate certificates') ],
	[ 'the certificate of %s is signed by an unknown authority%s, whose certificate was not sent: a server must also send its intermediate certificates', () => _('the certificate of %s is signed by an unknown authority%s, whose certificate was not sent: a server must also send its intermediate certificates') ],
	[ 'the certificate of %s is signed by an unknown authority', () => _('the certificate of %s is signed by an unknown authority') ],
	[ 'the certificate of %s is signed by an unknown authority%s', () => _('the certificate of %s is signed by an unknown authority%s') ],
	[ 'the certificate of %s has no subjectAltName, and its common name (CN) is ignored (RFC 9525)', () => _('the certificate of %s has no subjectAltName, and its common name (CN) is ignored (RFC 9525)') ],
	[ 'the certificate of %s has no subjectAltName with a host, and its common name (CN) is ignored (RFC 9525)', () => _('the certificate of %s has no subjectAltName with a host, and its common name (CN) is ignored (RFC 9525)') ],
	[ '%s said: %s', () => _('%s said: %s') ],
	[ 'for your own server, set fingerprint or create a certificate with a subjectAltName; another server may be impersonating the provider', () => _('trust the certificate below if it is your own server, or create one with a subjectAltName; another server may be impersonating the provider') ],
	[ 'another server may be impersonating the provider', () => _('another server may be impersonating the provider') ],
	[ 'the certificate is not valid for %s, only for %s', () => _('the certificate is not valid for %s, only for %s') ],
	[ 'the certificate is not valid for %s', () => _('the certificate is not valid for %s') ],
	[ 'the certificate of %s has expired', () => _('the certificate of %s has expired') ],
	[ 'renew it; if it is still valid, this router\'s clock is wrong: check NTP', () => _('renew it; if it is still valid, this router\'s clock is wrong: check NTP') ],
	[ 'the certificate of %s is not yet valid', () => _('the certificate of %s is not yet valid') ],
	[ 'this router\'s clock is probably wrong, check NTP', () => _('this router\'s clock is probably wrong, check NTP') ],
	[ 'the certificate of %s does not match option fingerprint', () => _('the certificate of %s is not the one that is trusted') ],
	[ 'if it was renewed, set the new fingerprint; otherwise another server may be impersonating the provider', () => _('if it was renewed, trust the new one; otherwise another server may be impersonating the provider') ],
	[ 'the certificate of %s has been revoked', () => _('the certificate of %s has been revoked') ],
	[ 'ask the provider', () => _('ask the provider') ],
	[ '%s does not have the private key of its certificate, or the certificate was modified', () => _('%s does not have the private key of its certificate, or the certificate was modified') ],
	[ 'another server may be impersonating the provider; the key of your own server must be RSA of 2048 bits or more, or ECDSA', () => _('another server may be impersonating the provider; the key of your own server must be RSA of 2048 bits or more, or ECDSA') ],
	[ 'the certificate of %s cannot be read', () => _('the certificate of %s cannot be read') ],
	[ 'the certificate of %s, or one above it, is signed with an algorithm that is no longer secure (such as SHA-1)', () => _('the certificate of %s, or one above it, is signed with an algorithm that is no longer secure (such as SHA-1)') ],
	[ 'the RSA key of %s has %s bits, too few to be verified with this version of TLS', () => _('the RSA key of %s has %s bits, too few to be verified with this version of TLS') ],
	[ 'give the server a key of 2048 bits; verify \'0\' accepts it, but then the connection can be intercepted', () => _('give the server a key of 2048 bits; without verification it is accepted, but then the connection can be intercepted') ],
	[ 'the certificate of %s is not acceptable (%s)', () => _('the certificate of %s is not acceptable (%s)') ],
	[ 'the certificate of %s is not meant for servers (extendedKeyUsage)', () => _('the certificate of %s is not meant for servers (extendedKeyUsage)') ],
	[ 'the certificate of %s has an unsupported critical extension', () => _('the certificate of %s has an unsupported critical extension') ],
	[ 'the certificate of %s is a CA certificate (CA:TRUE), not a server certificate', () => _('the certificate of %s is a CA certificate (CA:TRUE), not a server certificate') ],
	[ 'for your own server, set fingerprint or create a certificate with CA:FALSE', () => _('trust the certificate below if it is your own server, or create one with CA:FALSE') ],
	[ 'the certificate of %s is an X.509 version 1 certificate', () => _('the certificate of %s is an X.509 version 1 certificate') ],
	[ 'the issuer of the certificate of %s is not allowed to sign it (%s)', () => _('the issuer of the certificate of %s is not allowed to sign it (%s)') ],
	[ '%s sends a certificate chain that is too long to be verified (%s)', () => _('%s sends a certificate chain that is too long to be verified (%s)') ],
	[ '%s offers no supported login mechanism (PLAIN, LOGIN, CRAM-MD5)', () => _('%s offers no supported login mechanism (PLAIN, LOGIN, CRAM-MD5)') ],
	[ 'enter it: smtprelay password %s', () => _('enter it on the overview page (account %s)') ],
	[ 'account \'%s\' has no password', () => _('account \'%s\' has no password') ],
	[ 'channel \'%s\' has no token', () => _('channel \'%s\' has no token') ],
	[ 'skipped, because there was no answer', () => _('skipped, because there was no answer') ],
	[ 'no token is used for this channel', () => _('no token is used for this channel') ],
	[ '%s accepted the token', () => _('%s accepted the token') ],
	[ '%s cannot verify the login now: %s', () => _('%s cannot verify the login now: %s') ],
	[ '%s answered the login of \'%s\' with: %s', () => _('%s answered the login of \'%s\' with: %s') ],
	[ '%s offers no login with tokens (XOAUTH2, OAUTHBEARER)', () => _('%s offers no login with tokens (XOAUTH2, OAUTHBEARER)') ],
	[ '%s, or set auth \'password\'', () => _('%s, or select authentication by password') ],
	[ 'sign in again as %s: smtprelay login %s', () => _('sign in again as %s (account %s)') ],
	[ '%s refused the login of \'%s\' with a new token: %s', () => _('%s refused the login of \'%s\' with a new token: %s') ],
	[ '%s refused the login of \'%s\': %s', () => _('%s refused the login of \'%s\': %s') ],
	[ '%s refused the login: %s', () => _('%s refused the login: %s') ],
	[ 'no answer from DNS for the name %s', () => _('no answer from DNS for the name %s') ],
	[ 'the uplink or its DNS is down', () => _('the uplink or its DNS is down') ],
	[ 'the name %s cannot be resolved (%s)', () => _('the name %s cannot be resolved (%s)') ],
	[ 'the uplink or its DNS is down, or the name is wrong', () => _('the uplink or its DNS is down, or the name is wrong') ],
	[ 'check the uplink, option host and option port', () => _('check the uplink, mail server and port') ],
	[ 'the name %s has no address', () => _('the name %s has no address') ],
	[ 'no answer from %s (%s) within %s s', () => _('no answer from %s (%s) within %s s') ],
	[ 'no connection to %s (%s): %s', () => _('no connection to %s (%s): %s') ],
	[ '%s is an IP address, no DNS lookup is needed', () => _('%s is an IP address, no DNS lookup is needed') ],
	[ '%s has the address %s', () => _('%s has the address %s') ],
	[ '%s has the addresses %s and %s more', () => _('%s has the addresses %s and %s more') ],
	[ '%s has no address', () => _('%s has no address') ],
	[ '%s accepts connections on port %s', () => _('%s accepts connections on port %s') ],
	[ 'option host \'%s\' is not a valid host name for a certificate', () => _('the mail server \'%s\' is not a valid hostname for a certificate') ],
	[ '%s did not finish the TLS handshake within %s s', () => _('%s did not finish the TLS handshake within %s s') ],
	[ 'check port and tls', () => _('check port and encryption') ],
	[ 'no TLS (option tls \'none\'): anyone on the network path can read this connection', () => _('no TLS: anyone on the network path can read this connection') ],
	[ '%s from here on', () => _('%s from here on') ],
	[ '%s with %s; the certificate is signed by a known authority and valid until %s', () => _('%s with %s; the certificate is signed by a known authority and valid until %s') ],
	[ '%s with %s; the certificate matches the pinned fingerprint and valid until %s', () => _('%s with %s; the certificate matches the pinned fingerprint and valid until %s') ],
	[ '%s with %s; the certificate was NOT verified and valid until %s', () => _('%s with %s; the certificate was NOT verified and valid until %s') ],
	[ 'no login is used for this account at %s', () => _('no login is used for this account at %s') ],
	[ '%s accepted the login of \'%s\'', () => _('%s accepted the login of \'%s\'') ],
	[ '%s accepted the login of \'%s\' with a token', () => _('%s accepted the login of \'%s\' with a token') ],
	[ 'it may be stripped on the network path', () => _('it may be stripped on the network path') ],
	[ '%s does not offer STARTTLS on port %s, so nothing was sent', () => _('%s does not offer STARTTLS on port %s, so nothing was sent') ],
	[ '%s sent unencrypted data after its reply to STARTTLS: the connection may have been tampered with, so nothing was sent', () => _('%s sent unencrypted data after its reply to STARTTLS: the connection may have been tampered with, so nothing was sent') ],
	[ 'the connection to %s was lost: %s', () => _('the connection to %s was lost: %s') ],
	[ 'this provider no longer accepts passwords: set auth \'xoauth2\' for the account and sign in with smtprelay login', () => _('this provider no longer accepts passwords: select authentication by OAuth 2.0 and sign in') ],
	[ 'create an app password in the security settings of the mailbox and set it as the password', () => _('create an app password in the security settings of the mailbox and set it as the password') ],
	[ 'check username and password; many providers require an app password here', () => _('check username and password; many providers require an app password here') ],
	[ 'set username and password of the account', () => _('set username and password of the account') ],
	[ 'enable SMTP in the webmail and set the authorization code shown there as the password', () => _('enable SMTP in the webmail and set the authorization code shown there as the password') ],
	[ 'set option hostname of section relay to a fully qualified name in your own domain', () => _('set Hostname to a fully qualified name in your own domain') ],
	[ 'log in at the provider: the account or its domain must be confirmed there first', () => _('log in at the provider: the account or its domain must be confirmed there first') ],
	[ 'confirm the address at the provider, or set option from to a confirmed address', () => _('confirm the address at the provider, or set the sender address to a confirmed one') ],
	[ 'the sender\'s domain does not authorize this server (SPF, DKIM): set option from to an address of the mailbox', () => _('the sender\'s domain does not authorize this server (SPF, DKIM): set the sender address to one of the mailbox') ],
	[ 'that server only accepts incoming mail for its own users: set host, username and password of your own provider', () => _('that server only accepts incoming mail for its own users: set mail server, username and password of your own provider') ],
	[ 'the link in the reply explains the rule; set from_policy \'account\' and set a clear subject in the device', () => _('the link in the reply explains the rule; set the sender policy to account, and a clear subject in the device') ],
	[ 'set tls \'starttls\' (port 587) or \'implicit\' (port 465) for the account', () => _('set the encryption of the account to STARTTLS (port 587) or implicit TLS (port 465)') ],
	[ 'set option from to an address of the mailbox, and from_policy \'account\'', () => _('set the sender address to one of the mailbox, and the sender policy to account') ],
	[ 'the provider lifts the limit within 24 hours; send less mail or choose a larger plan', () => _('the provider lifts the limit within 24 hours; send less mail or choose a larger plan') ],
	[ 'the provider lifts the limit after an hour to a day; send less mail or choose a larger plan', () => _('the provider lifts the limit after an hour to a day; send less mail or choose a larger plan') ],
	[ 'the account is blocked from sending: change its password, find out what sent so much mail, and ask the provider to unlock it', () => _('the account is blocked from sending: change its password, find out what sent so much mail, and ask the provider to unlock it') ],
	[ 'it is retried more slowly; if this persists, set option connections to 1', () => _('it is retried more slowly; if this persists, set Maximum connections to 1') ],
	[ 'no login is possible for a while; check what else logs in to this mailbox', () => _('no login is possible for a while; check what else logs in to this mailbox') ],
	[ 'it is a temporary problem at the provider', () => _('it is a temporary problem at the provider') ],
	[ 'the recipient is receiving too much mail at the moment', () => _('the recipient is receiving too much mail at the moment') ],
	[ 'the recipient does not exist there, or the server requires a login first: check the address, username and password', () => _('the recipient does not exist there, or the server requires a login first: check the address, username and password') ],
	[ 'the recipient does not exist there; check the address in the device', () => _('the recipient does not exist there; check the address in the device') ],
	[ 'the provider classified the message as spam: set a clear subject and normal text in the device', () => _('the provider classified the message as spam: set a clear subject and normal text in the device') ],
	[ 'the recipient\'s mailbox is full', () => _('the recipient\'s mailbox is full') ],
	[ 'the message is too large for the provider; reduce the size of pictures or files in the device', () => _('the message is too large for the provider; reduce the size of pictures or files in the device') ],
	[ 'the provider accepts fewer recipients at once; the rest follow in the next transaction', () => _('the provider accepts fewer recipients at once; the rest follow in the next transaction') ],
	[ 'the public address of this uplink is on a block list: use another address, or ask the named list to remove it', () => _('the public address of this uplink is on a block list: use another address, or ask the named list to remove it') ],
	[ 'the recipient\'s domain does not exist; check the address in the device', () => _('the recipient\'s domain does not exist; check the address in the device') ],
	[ 'the message is too large for the provider, or for the space left in the recipient\'s mailbox; reduce the size of pictures or files in the device', () => _('the message is too large for the provider, or for the space left in the recipient\'s mailbox; reduce the size of pictures or files in the device') ],
	[ 'the recipient\'s server cannot be reached; check the address in the device', () => _('the recipient\'s server cannot be reached; check the address in the device') ],
	[ 'mail loop detected: the forwarding of the recipient\'s mail must be corrected', () => _('mail loop detected: the forwarding of the recipient\'s mail must be corrected') ],
	[ 'the recipient\'s mailbox is disabled or does not accept mail', () => _('the recipient\'s mailbox is disabled or does not accept mail') ],
	[ 'the sender\'s domain or this uplink could not be verified (SPF, DKIM, reverse DNS): set option from to an address of the mailbox, and from_policy \'account\'', () => _('the sender\'s domain or this uplink could not be verified (SPF, DKIM, reverse DNS): set the sender address to one of the mailbox, and the sender policy to account') ],
	[ 'log in once with a web browser and confirm the gateway, or use an app password', () => _('log in once with a web browser and confirm the gateway, or use an app password') ],
	[ 'set a longer password at the provider', () => _('set a longer password at the provider') ],
	[ 'check username and password; at Comcast enable \'third-party access security\' first', () => _('check username and password; at Comcast enable \'third-party access security\' first') ],
	[ 'check username and password; at GMX and web.de enable POP3/IMAP in the webmail first, at Amazon use the SMTP credentials of the region', () => _('check username and password; at GMX and web.de enable POP3/IMAP in the webmail first, at Amazon use the SMTP credentials of the region') ],
	[ 'register the public address of this uplink with the provider, or set username and password', () => _('register the public address of this uplink with the provider, or set username and password') ],
	[ 'the provider does not allow this type of attachment', () => _('the provider does not allow this type of attachment') ],
	[ 'the provider does not trust the public address of this uplink yet: ask the provider to release it, or use another uplink', () => _('the provider does not trust the public address of this uplink yet: ask the provider to release it, or use another uplink') ],
	[ 'add the recipient to the authorized recipients at the provider, or use your own domain there', () => _('add the recipient to the authorized recipients at the provider, or use your own domain there') ],
	[ 'check that NTP works', () => _('check that NTP works') ],
	[ 'the clock of this router is not set, so certificates cannot be verified and dates would be wrong', () => _('the clock of this router is not set, so certificates cannot be verified and dates would be wrong') ],
	[ 'the test was aborted after %s s', () => _('the test was aborted after %s s') ],
	[ 'the clock is set: %s', () => _('the clock is set: %s') ],
	[ 'the clock of this router is not set; this account needs no certificate, so mail is sent anyway', () => _('the clock of this router is not set; this account needs no certificate, so mail is sent anyway') ],
	[ 'this router has a route to the internet (default route)', () => _('this router has a route to the internet (default route)') ],
	[ 'skipped, because TLS cannot be set up', () => _('skipped, because TLS cannot be set up') ],
	[ 'there is no default route; whether one is needed was not tested', () => _('there is no default route; whether one is needed was not tested') ],
	[ 'there is no default route; %s is reachable without one', () => _('there is no default route; %s is reachable without one') ],
	[ 'this router has no route to the internet (no default route)', () => _('this router has no route to the internet (no default route)') ],
	[ 'check the WAN connection of this router', () => _('check the WAN connection of this router') ],
	[ '%s accepted the mail for %s: %s', () => _('%s accepted the mail for %s: %s') ],
	[ '%s closed the connection before it accepted the mail', () => _('%s closed the connection before it accepted the mail') ],
	[ 'the test mail cannot be created: %s', () => _('the test mail cannot be created: %s') ],
	[ '%s does not support international addresses (SMTPUTF8)', () => _('%s does not support international addresses (SMTPUTF8)') ],
	[ '%s does not support international addresses (SMTPUTF8), and the domain cannot be written in ASCII', () => _('%s does not support international addresses (SMTPUTF8), and the domain cannot be written in ASCII') ],
	[ '%s does not support the sender <%s> (no SMTPUTF8)', () => _('%s does not support the sender <%s> (no SMTPUTF8)') ],
	[ 'set option from of account \'%s\' to an ASCII address', () => _('set the sender address of account \'%s\' to an ASCII address') ],
	[ 'cannot be sent to %s: %s', () => _('cannot be sent to %s: %s') ],
	[ '%s sent a reply before %s that nothing had asked for: %s, so the connection was closed', () => _('%s sent a reply before %s that nothing had asked for: %s, so the connection was closed') ],
	[ '%s answered %s with: %s, which is not a valid reply to it, so the connection was closed', () => _('%s answered %s with: %s, which is not a valid reply to it, so the connection was closed') ],
	[ '%s answered %s with: %s, so its replies cannot be matched to the commands', () => _('%s answered %s with: %s, so its replies cannot be matched to the commands') ],
	[ 'if %s requires a login for this recipient, %s', () => _('if %s requires a login for this recipient, %s') ],
	[ '%s replied before the end of the message without being asked: %s; so the message was not completed and the connection was closed', () => _('%s replied before the end of the message without being asked: %s; so the message was not completed and the connection was closed') ],
	[ 'the text of the message', () => _('the text of the message') ],
	[ 'mail waits', () => _('mail waits') ],
	[ 'it is deferred and will be retried', () => _('it is deferred and will be retried') ],
	[ '%s accepts no more mail from this account for now: %s', () => _('%s accepts no more mail from this account for now: %s') ],
	[ '%s is limiting the rate of this account: %s', () => _('%s is limiting the rate of this account: %s') ],
	[ '%s offers a login and refuses mail from this account without one: %s', () => _('%s offers a login and refuses mail from this account without one: %s') ],
	[ 'check username and password of the account', () => _('check username and password of the account') ],
	[ 'this is temporary', () => _('this is temporary') ],
	[ 'if this persists, check the settings of the account, and ask the provider what it means', () => _('if this persists, check the settings of the account, and ask the provider what it means') ],
	[ 'if this persists, check host and port, and ask the provider why it rejects this uplink', () => _('if this persists, check mail server and port, and ask the provider why it rejects this uplink') ],
	[ '%s refuses this gateway: %s', () => _('%s refuses this gateway: %s') ],
	[ 'the provider reports this as permanent', () => _('the provider reports this as permanent') ],
	[ '%s requires a valid login: %s', () => _('%s requires a valid login: %s') ],
	[ '%s does not allow the account to send from its address: %s', () => _('%s does not allow the account to send from its address: %s') ],
	[ '%s cannot be used with these settings: %s', () => _('%s cannot be used with these settings: %s') ],
	[ '%s accepts no mail now: %s', () => _('%s accepts no mail now: %s') ],
	[ '%s refused it: %s', () => _('%s refused it: %s') ],
	[ 'the connection already uses TLS', () => _('the connection already uses TLS') ],
	[ 'the reply is too long', () => _('the reply is too long') ],
	[ 'if this persists, check the uplink, option host and option port', () => _('if this persists, check the uplink, mail server and port') ],
	[ 'if this persists, check the uplink, option host, port and tls (465 implicit, 587 starttls)', () => _('if this persists, check the uplink, mail server, port and encryption (465 implicit TLS, 587 STARTTLS)') ],
	[ '%s did not respond for %s s during %s', () => _('%s did not respond for %s s during %s') ],
	[ '%s closed the connection during %s without a reply', () => _('%s closed the connection during %s without a reply') ],
	[ '%s closed the connection during %s; its last reply was: %s', () => _('%s closed the connection during %s; its last reply was: %s') ],
	[ '%s did not answer in SMTP during %s: %s', () => _('%s did not answer in SMTP during %s: %s') ],
	[ 'the connection to %s was lost during %s: %s', () => _('the connection to %s was lost during %s: %s') ],
	[ 'collected for the digest of device \'%s\' %s: it sends more than %s', () => _('collected for the digest of device \'%s\' %s: it sends more than %s') ],
	[ 'rate limited, next attempt %s: device \'%s\' sends more than %s', () => _('rate limited, next attempt %s: device \'%s\' sends more than %s') ],
	[ 'mail is on stable storage before it is accepted: a power cut loses nothing', () => _('mail is on stable storage before it is accepted: a power cut loses nothing') ],
	[ 'mail is written through to %s before it is accepted: a power cut loses nothing if that is flash or disk, and everything if it is RAM', () => _('mail is written through to %s before it is accepted: a power cut loses nothing if that is flash or disk, and everything if it is RAM') ],
	[ 'a power cut loses undelivered mail of the last minute; mail that waits longer, and all mail at a reboot, is moved to %s', () => _('a power cut loses undelivered mail of the last minute; mail that waits longer, and all mail at a reboot, is moved to %s') ],
	[ 'no safe_spool is set: a power cut or a reboot loses all mail queued in %s if that is RAM; set safe_spool to a directory on flash or USB', () => _('no persistent queue directory is set: a power cut or a reboot loses all mail queued in %s if that is RAM; set one on flash or USB') ],
	[ 'durability is \'memory\': a power cut or a reboot loses all mail queued in %s if that is RAM', () => _('durability is \'memory\': a power cut or a reboot loses all mail queued in %s if that is RAM') ],
	[ 'add a section account, or name an enabled account in its route', () => _('add an account, or name an enabled account in its route') ],
	[ 'no account is enabled for this mail: %s', () => _('no account is enabled for this mail: %s') ],
	[ 'cannot accept a connection: %s', () => _('cannot accept a connection: %s') ],
	[ 'too many open connections from this client', () => _('too many open connections from this client') ],
	[ 'its address is not in an allowed network; to let it send, add its network to \'list allow\' of the listener', () => _('its address is not in an allowed network; to let it send, add its network to Allowed networks of the listener') ],
	[ 'no session became free within %s s', () => _('no session became free within %s s') ],
	[ 'cannot listen on %s: %s', () => _('cannot listen on %s: %s') ],
	[ 'a program on this host has too many open connections to submit.sock', () => _('a program on this host has too many open connections to submit.sock') ],
	[ 'account \'%s\' uses a password, not an OAuth login', () => _('account \'%s\' uses a password, not an OAuth login') ],
	[ 'the login in %s cannot be read (%s)', () => _('the login in %s cannot be read (%s)') ],
	[ 'nobody has signed in yet', () => _('nobody has signed in yet') ],
	[ 'the login was made with another client_id or token_url', () => _('the login was made with another client ID or token URL') ],
	[ 'the renewed login cannot be written to %s and will be lost at a restart: %s; free some space there', () => _('the renewed login cannot be written to %s and will be lost at a restart: %s; free some space there') ],
	[ 'run smtprelay login %s', () => _('sign in on the overview page (account %s)') ],
	[ 'account \'%s\' cannot log in, %s', () => _('account \'%s\' cannot log in, %s') ],
	[ 'this router\'s clock is not set, so no login server can be verified', () => _('this router\'s clock is not set, so no login server can be verified') ],
	[ 'the login cannot be written to %s: %s', () => _('the login cannot be written to %s: %s') ],
	[ '%s returned no sign-in code', () => _('%s returned no sign-in code') ],
	[ 'check option device_url', () => _('check the device authorization URL') ],
	[ 'start again: smtprelay login %s', () => _('start again (account %s)') ],
	[ 'nobody signed in before the code expired', () => _('nobody signed in before the code expired') ],
	[ 'the sign-in was declined', () => _('the sign-in was declined') ],
	[ 'the system provides no random numbers: %s', () => _('the system provides no random numbers: %s') ],
	[ 'this is much longer than the address that the browser shows at the end', () => _('this is much longer than the address that the browser shows at the end') ],
	[ 'the sign-in was declined, or the client is not allowed: %s', () => _('the sign-in was declined, or the client is not allowed: %s') ],
	[ 'this address belongs to another login: copy the address that this login led to', () => _('this address belongs to another login: copy the address that this login led to') ],
	[ 'this is not the address that the browser shows at the end: that one begins with %s and contains \'code=\'', () => _('this is not the address that the browser shows at the end: that one begins with %s and contains \'code=\'') ],
	[ 'waiting for the sign-in in the browser', () => _('waiting for the sign-in in the browser') ],
	[ 'account \'%s\' is logged in', () => _('account \'%s\' is logged in') ],
	[ 'account \'%s\' uses a password, not an OAuth login: option auth is not \'xoauth2\'', () => _('account \'%s\' uses a password, not an OAuth login: its authentication is not OAuth 2.0') ],
	[ '%s returned no usable token', () => _('%s returned no usable token') ],
	[ 'check option token_url', () => _('check the token URL') ],
	[ 'this is usually temporary', () => _('this is usually temporary') ],
	[ 'check options client_id and client_secret of account \'%s\'', () => _('check client ID and client secret of account \'%s\'') ],
	[ 'check option scope of account \'%s\'', () => _('check the scope of account \'%s\'') ],
	[ 'sign in again: smtprelay login %s', () => _('sign in again (account %s)') ],
	[ 'the login server refused account \'%s\' (%s%s%s)', () => _('the login server refused account \'%s\' (%s%s%s)') ],
	[ 'the login server %s is out of order (HTTP %s)', () => _('the login server %s is out of order (HTTP %s)') ],
	[ 'the login server %s sent a reply without tokens (HTTP %s)', () => _('the login server %s sent a reply without tokens (HTTP %s)') ],
	[ 'check the OAuth addresses of the account', () => _('check the OAuth addresses of the account') ],
	[ 'log in', () => _('log in') ],
	[ 'wrong user name or password, login \'%s\'', () => _('wrong user name or password, login \'%s\'') ],
	[ 'account \'%s\': %s', () => _('account \'%s\': %s') ],
	[ 'listener \'%s\': %s', () => _('listener \'%s\': %s') ],
	[ 'line %s: %s', () => _('line %s: %s') ],
	[ 'Enable SMTP in webmail, which then shows the code.', () => _('Enable SMTP in webmail, which then shows the code.') ],
	[ 'Create one in the security settings of the mailbox.', () => _('Create one in the security settings of the mailbox.') ],
	[ 'AT&T calls it \'secure mail key\'.', () => _('AT&T calls it \'secure mail key\'.') ],
	[ 'Use the login and SMTP key (not the API key) shown in the settings.', () => _('Use the login and SMTP key (not the API key) shown in the settings.') ],
	[ 'First enable \'third-party access security\'.', () => _('First enable \'third-party access security\'.') ],
	[ 'First enable \'SMTP authentifié\'.', () => _('First enable \'SMTP authentifié\'.') ],
	[ 'Requires two-step verification; the account\'s own password is refused.', () => _('Requires two-step verification; the account\'s own password is refused.') ],
	[ 'First enable \'POP3 and IMAP\' in webmail.', () => _('First enable \'POP3 and IMAP\' in webmail.') ],
	[ 'Set option hostname: Google refuses \'localhost\'. Without a login, your public address must be registered there.', () => _('Set the hostname: Google refuses \'localhost\'. Without a login, your public address must be registered there.') ],
	[ 'Requires two-factor authentication.', () => _('Requires two-factor authentication.') ],
	[ 'SMTP AUTH must be enabled for the mailbox; passwords work until the end of 2026. After that, set auth \'xoauth2\' and run smtprelay login.', () => _('SMTP AUTH must be enabled for the mailbox; passwords work until the end of 2026. After that, sign in with Microsoft.') ],
	[ 'Only delivers to mailboxes of your own organisation, from a fixed IP address listed in SPF.', () => _('Only delivers to mailboxes of your own organisation, from a fixed IP address listed in SPF.') ],
	[ 'With two-factor login, create an app password.', () => _('With two-factor login, create an app password.') ],
	[ 'The user name is an address in the sending domain.', () => _('The user name is an address in the sending domain.') ],
	[ 'The user name is the API key; the password is the secret key.', () => _('The user name is the API key; the password is the secret key.') ],
	[ 'First enable access for mail programs.', () => _('First enable access for mail programs.') ],
	[ 'Microsoft refuses passwords, including app passwords: only a sign-in with OAuth2 works. Set auth \'xoauth2\' and run smtprelay login.', () => _('Microsoft refuses passwords, including app passwords: only a sign-in with OAuth 2.0 works.') ],
	[ 'With \'additional mailbox protection\', create an app password.', () => _('With \'additional mailbox protection\', create an app password.') ],
	[ 'The server token is both user name and password; leave username unset.', () => _('The server token is both user name and password; leave username unset.') ],
	[ 'Create an SMTP token for an address in your own domain; requires a paid plan.', () => _('Create an SMTP token for an address in your own domain; requires a paid plan.') ],
	[ 'Create an API key with the Mail Send permission.', () => _('Create an API key with the Mail Send permission.') ],
	[ 'Create SMTP credentials for the region (AWS access keys do not work) and set option region.', () => _('Create SMTP credentials for the region (AWS access keys do not work) and enter the region.') ],
	[ 'Add an SMTP user. The hosts mail-eu, mail-us and mail-au keep mail in a region.', () => _('Add an SMTP user. The hosts mail-eu, mail-us and mail-au keep mail in a region.') ],
	[ 'Create the separate \'E-Mail-Passwort\'; the login password is refused.', () => _('Create the separate \'E-Mail-Passwort\'; the login password is refused.') ]
]);

/** The same as patterns, those with the longest text first; made when they are first needed. */
let patterns = /** @type {{pattern: RegExp, page: () => string, clauses: number}[]} */ ([]);

/**
 * A sentence with parameters as a pattern.
 *
 * @param {string} sentence with %s for each parameter
 * @returns {RegExp} the pattern
 */
function patternOf(sentence) {
	const parts = sentence.split('%s').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));

	return new RegExp(`^${parts.join('(.*?)')}$`);
}

/**
 * The words of the page for a sentence that is in the list.
 *
 * @param {string} sentence the sentence
 * @param {number} count number of its clauses: what is filled in has none of its own
 * @param {number} depth how deep it is inside of other sentences
 * @returns {string | null} the words; null if it is not in the list
 */
function known(sentence, count, depth) {
	for (const { pattern, page, clauses } of patterns) {
		const found = (clauses == count) ? pattern.exec(sentence) : null;

		if (found)
			return page().format(...found.slice(1).map((part) => (depth < 3) ? translated(part, depth + 1) : part));
	}

	return null;
}

/**
 * The words of the page for a sentence, or for the clauses that it consists of.
 *
 * @param {string} sentence the sentence
 * @param {number} depth how deep it is inside of other sentences
 * @returns {string} the words
 */
function translated(sentence, depth) {
	const clauses = sentence.split('; ');
	/** @type {string[]} */
	const words = [];

	// A remedy may consist of several clauses: the longest run that is known counts.
	while (clauses.length) {
		let length = clauses.length;
		let found = null;

		for (; length > 0 && !found; length--)
			found = known(clauses.slice(0, length).join('; '), length, depth);

		words.push(found ?? clauses[0]);
		clauses.splice(0, found ? length + 1 : 1);
	}

	return words.join('; ');
}

return baseclass.extend({
	/** For tests. */
	all: SENTENCES.map(([ sentence ]) => sentence),

	/**
	 * A sentence of the daemon in the language of the page.
	 *
	 * @param {unknown} sentence the sentence
	 * @returns {string} the same, made safe to show
	 */
	say(sentence) {
		if (!patterns.length) {
			patterns = SENTENCES.map(([ daemon, page ]) => ({ pattern: patternOf(daemon), page: page, clauses: daemon.split('; ').length, weight: daemon.replace(/%s/g, '').length }))
				.sort((a, b) => b.weight - a.weight);
		}

		return translated(text.plain(sentence, 400), 0);
	}
});
