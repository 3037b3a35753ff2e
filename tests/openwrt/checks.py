# SPDX-License-Identifier: Apache-2.0
"""What must be true of the gateway on OpenWrt, in the order in which it is looked at."""

import hashlib
import json
import os
import re
import shlex
import smtplib
import ssl
import subprocess
import threading
import time

import keep
from keep import INIT
from router import Skip, until

SETTINGS = '/etc/config/smtprelay'
PLACE = '/tmp/smtprelay-test'
SAFE = '/etc/smtprelay-test'
CERTIFICATE = '/etc/smtprelay-test.crt'
JAIL = os.environ.get('OPENWRT_JAIL', '1')
CHECKS = []


def check(function):
    """Puts a check on the list."""
    CHECKS.append(function)
    return function


class Gateway:
    """The gateway on the router, and the two between which it stands."""

    def __init__(self, router, address, own, provider):
        self.router, self.address, self.own, self.provider = router, address, own, provider
        self.sent = 0

    # --- The settings

    def keep_aside(self):
        """Keeps the settings of the router that the checks change."""
        keep.keep(self.router)
        self.router.sh(f'rm -rf {PLACE} {SAFE}')

    def put_back(self):
        """The router as it was: whether it is."""
        self.router.run(f'''[ ! -x {INIT} ] || {INIT} stop
            rm -rf {PLACE} {SAFE} /etc/smtprelay-test-ca.pem {CERTIFICATE} /etc/hotplug.d/smtprelay/99-test
            rmdir /etc/hotplug.d/smtprelay 2>/dev/null''')
        return keep.restore(self.router)

    def recover(self):
        """After a check that failed: as the next one expects it."""
        self.provider.refusing = False
        self.configure()
        self.router.run(f'''rm -rf /etc/hotplug.d/smtprelay/99-test; rmdir /etc/hotplug.d/smtprelay 2>/dev/null
            {INIT} restart''')
        try:
            self.running()
            self.joined()
        except AssertionError:
            pass  # the next check will say so

    def configure(self, more='', account=None, listener=None):
        """Writes settings of our own; their mode is kept."""
        provider = self.provider
        host, port = (provider.address, provider.port)
        text = f'''
config relay 'main'
	option enabled '1'
	option hostname 'gw.example'
	option admin 'ops@example.com'
	option spool '{PLACE}/spool'
	option safe_spool '{SAFE}'
	option jail '{JAIL}'
{more}
config listener 'lan'
{listener or "	list interface 'lan'"}
	option port '25'

config account 'provider'
	option provider 'custom'
	option host '{host}'
	option port '{port}'
	option tls 'implicit'
	option ca_file '/etc/smtprelay-test-ca.pem'
	option username '{provider.USER}'
	option password '{provider.PASSWORD}'
	option from '{provider.USER}'
{account or ""}'''
        with open(provider.authority, 'rb') as file:
            self.router.put('/etc/smtprelay-test-ca.pem', file.read())
        self.router.put(SETTINGS, text.encode(), '0600')

    def set(self, *changes):
        """Changes settings as users do, and has procd told: 'NAME=VALUE', or a command of uci."""
        commands = [change if ' ' in change else f'set {change}' for change in changes]
        self.router.sh('; '.join(f'uci {command}' for command in commands) + '; uci commit; reload_config')

    def change(self, *changes):
        """Changes settings of a gateway that runs, and waits until they are in use."""
        before = self.call('status')['settings']['loaded']
        self.set(*changes)
        until('the new settings are in use', lambda: self.call('status')['settings']['loaded'] != before)

    # --- The service

    def service(self, action):
        """Exit code and words of the init script."""
        return self.router.run(f'{INIT} {action}')

    def instance(self):
        """What procd says of the instance."""
        said = json.loads(self.router.sh('ubus call service list \'{"name":"smtprelay"}\''))
        instances = said.get('smtprelay', {}).get('instances', {})
        return next(iter(instances.values()), {})

    def pid(self):
        """The gateway itself: in a jail a child of what procd started; None if it does not run."""
        said = self.router.sh('''{ for p in $(pidof smtprelay); do
            case "$(tr '\\0' ' ' <"/proc/$p/cmdline")" in "/usr/sbin/smtprelay run "*) echo "$p";; esac
            done; } 2>/dev/null''', quiet=True).split()
        return int(said[0]) if said else None

    def is_bound(self, address=None, port=25):
        """Whether somebody listens there."""
        number = ''.join(f'{int(part):02X}' for part in (address or self.address).split('.'))
        little = ''.join(number[i:i + 2] for i in range(6, -1, -2))
        table = self.router.sh('cat /proc/net/tcp', quiet=True).upper()
        return re.search(rf':\s({little}|{number}):{port:04X} 00000000:0000 0A', table) is not None

    def start(self):
        """Starts it and waits until it takes mail: its pid."""
        code, said = self.service('start')
        assert code == 0, said
        return self.running()

    def running(self):
        """Waits until it runs and takes mail: its pid."""
        until('somebody listens on port 25', self.is_bound)
        return until('the gateway runs', self.pid)

    def replaced(self, before):
        """Waits until another process than this one runs."""
        until('another process runs', lambda: self.pid() not in (None, before))

    def stopped(self):
        """Waits for its end."""
        until('the gateway has ended', lambda: not self.pid())

    def call(self, method, **arguments):
        """A method of the object on ubus."""
        return json.loads(self.router.sh(f'ubus call smtprelay {method} {shlex.quote(json.dumps(arguments))}'))

    def joined(self):
        """Waits for the object."""
        self.router.sh('ubus -t 60 wait_for smtprelay')

    # --- Mail

    def device(self):
        """A device that has said EHLO."""
        smtp = smtplib.SMTP(self.address, 25, timeout=30)
        smtp.ehlo('plc')
        return smtp

    def send(self, smtp=None):
        """Sends a mail: a word that is only in this one."""
        self.sent += 1
        word = f'alarm-{os.getpid()}-{self.sent}-end'
        (smtp or self.device()).sendmail('plc@plant.example', ['ops@example.com'],
                                         f'From: plc@plant.example\nTo: ops@example.com\nSubject: {word}\n\nPump 3\n')
        return word

    def arrives(self, word):
        """Waits until the provider has this mail, once."""
        message = until(f'the provider has {word}', lambda: self.provider.got(word))
        assert len(message) == 1, f'{word} came {len(message)} times'
        return message[0]

    def log(self, word):
        """Lines of the log about the gateway."""
        return [line for line in self.router.sh('logread -e smtprelay || :').splitlines() if word in line]


# --- Start and rights

@check
def start(gateway):
    """procd starts it, and it listens on port 25 of the LAN"""
    gateway.configure()
    gateway.service('enable')
    gateway.start()
    assert gateway.instance()['running'], gateway.instance()
    gateway.router.run('netstat -ltnp; ps w | grep smtprelay')


@check
def rights(gateway):
    """It runs as smtprelay, without capabilities, with no-new-privileges"""
    status = gateway.router.sh(f'cat /proc/{gateway.pid()}/status')
    own = gateway.router.sh('id -u smtprelay').strip()
    for line in ('Uid', 'Gid'):
        found = re.search(rf'^{line}:\s+(.*)$', status, re.M).group(1).split()
        assert found == [own] * 4, f'{line}: {found}'
    for line in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
        assert int(re.search(rf'^{line}:\s+(.*)$', status, re.M).group(1), 16) == 0, f'{line} in {status}'
    assert re.search(r'^NoNewPrivs:\s+1$', status, re.M), status


@check
def relays(gateway):
    """Mail of a device in the LAN reaches the provider over TLS with a login"""
    version, sender, recipients, text = gateway.arrives(gateway.send())
    assert version == 'TLSv1.3', version
    assert gateway.provider.USER in sender and 'ops@example.com' in recipients[0], (sender, recipients)
    assert 'Pump 3' in text, text
    gateway.router.note(text)
    last = until('status tells of it', lambda: gateway.call('status')['last'])
    assert 'TLSv1.3' in json.dumps(last), last


# --- ubus

@check
def bus(gateway):
    """The object is on ubus with all its methods, and each answers"""
    listed = gateway.router.sh('ubus -v list smtprelay')
    methods = re.findall(r'^\t"(\w+)":', listed, re.M)
    assert {'status', 'queue', 'test', 'set_password', 'devices'} <= set(methods), listed
    gateway.provider.refusing = True
    word = gateway.send()
    waiting = until('it waits', lambda: gateway.call('queue')['messages'])
    key = waiting[0]['id']
    job = gateway.call('test', to='ops@example.com', account='provider')['job']
    plausible = {
        'queue': {'limit': 5}, 'message': {'id': key}, 'hold': {'id': key}, 'release': {'id': key}, 'retry': {'id': 'all'},
        'job': {'id': job}, 'wake': {'reason': 'uplink'}, 'delete': {'id': 'NOSUCHMAIL'},
        'set_password': {'account': 'nobody', 'password': 'x'}, 'login_start': {'account': 'provider'},
        'login_poll': {'job': 'x', 'address': ''}, 'test': {'to': 'nonsense', 'account': 'nobody'},
    }
    refusals = {'delete', 'set_password', 'login_start', 'login_poll', 'test'}
    for method in methods:
        answer = gateway.call(method, **plausible.get(method, {}))
        assert ('error' in answer) == (method in refusals), f'{method}: {answer}'
    gateway.provider.refusing = False
    gateway.call('retry', id='all')
    gateway.arrives(word)
    code, said = gateway.router.run('ubus call smtprelay dance')
    assert code == 3 or 'Method not found' in said, (code, said)


@check
def news(gateway):
    """ubus subscribe and ubus listen hear of mail"""
    ears = [gateway.router.hear('exec ubus subscribe smtprelay'), gateway.router.hear('exec ubus listen smtprelay')]
    try:
        until('both listen', lambda: [gateway.arrives(gateway.send()), all('"queued"' in ear.said() and '"sent"' in ear.said() for ear in ears)][1])
    finally:
        said = [ear.close() for ear in ears]
    for heard in said:
        assert '"queued"' in heard, heard
        for line in heard.splitlines():
            json.loads(line)


@check
def bus_restarts(gateway):
    """It comes back, now without root's rights, when ubusd has restarted"""
    before = gateway.pid()
    old = gateway.router.sh('pidof ubusd').split()[0]
    gateway.router.sh(f'kill {old}')
    until('ubusd runs anew', lambda: gateway.router.run('pidof ubusd')[1].split() not in ([], [old]))
    gateway.joined()
    assert gateway.call('status')['running'], 'status'
    gateway.arrives(gateway.send())
    assert gateway.pid() == before, 'it was started anew'
    gateway.router.run('ps w | grep -e ubusd -e smtprelay; logread | tail -n 20')


# --- The service

def sends_again(gateway, word):
    """The gateway that was started anew sends what the former one had accepted."""
    gateway.provider.refusing = False
    gateway.running()
    gateway.joined()
    gateway.call('retry', id='all')
    gateway.arrives(word)


@check
def respawns(gateway):
    """procd starts it again after kill -9, and no mail is lost"""
    gateway.provider.refusing = True
    word, before = gateway.send(), gateway.pid()
    gateway.router.sh(f'kill -9 {before}')
    gateway.replaced(before)
    sends_again(gateway, word)


@check
def reloads(gateway):
    """uci set, uci commit and reload_config change the settings; an open session goes on"""
    device, before = gateway.device(), gateway.pid()
    gateway.router.sh('reload_config')
    gateway.set('smtprelay.main.message_limit=3M', 'smtprelay.lan.port=25')
    # What EHLO offers (RFC 1870) tells whether they are in use.
    def size():
        with gateway.device() as fresh:
            return fresh.esmtp_features.get('size')
    until('the new limit is in use', lambda: size() == str(3 << 20))
    gateway.arrives(gateway.send(device))
    device.quit()
    assert gateway.pid() == before, 'it was started anew'


@check
def another_port(gateway):
    """reload binds another port below 1024, with an open session on the old one"""
    device, before = gateway.device(), gateway.pid()
    gateway.set('smtprelay.lan.port=26')
    until('port 26 is open', lambda: gateway.is_bound(port=26))
    until('port 25 is closed', lambda: not gateway.is_bound())
    gateway.arrives(gateway.send(device))
    device.quit()
    gateway.set('smtprelay.lan.port=25')
    gateway.running()
    assert gateway.pid() == before, 'it was started anew'


@check
def bad_file(gateway):
    """A file with a fault is refused with its line; the old settings go on; status says why"""
    good, before = gateway.router.sh(f'cat {SETTINGS}'), gateway.pid()
    gateway.router.sh(f"sed -i \"s/option port '25'/option port 'soon'/\" {SETTINGS}")
    line = next(n for n, text in enumerate(good.splitlines(), 1) if "port '25'" in text)
    code, said = gateway.service('reload')
    assert code != 0 and f'{SETTINGS}:{line}:' in said, (code, said)
    assert f'{SETTINGS}:{line}:' in gateway.call('status')['settings']['error'], gateway.call('status')['settings']
    gateway.arrives(gateway.send())
    for action in ('restart', 'start', 'check'):
        code, said = gateway.service(action)
        assert code != 0 and f'{SETTINGS}:{line}:' in said, (action, code, said)
    assert gateway.pid() == before, 'it was started anew'
    gateway.router.put(SETTINGS, good.encode(), '0600')
    code, said = gateway.service('reload')
    assert code == 0, said
    assert gateway.call('status')['settings']['error'] is None, gateway.call('status')['settings']


@check
def reload_on_ubus(gateway):
    """The method reload has procd do it as root, and tells what came of it"""
    before = gateway.pid()
    gateway.router.sh('uci set smtprelay.main.message_limit=4M; uci commit')
    answer = gateway.call('reload')
    assert 'error' not in answer, answer
    with gateway.device() as fresh:
        assert fresh.esmtp_features.get('size') == str(4 << 20), fresh.esmtp_features
    good = gateway.router.sh(f'cat {SETTINGS}')
    gateway.router.sh(f"sed -i \"s/option port '25'/option port 'soon'/\" {SETTINGS}")
    answer = gateway.call('reload')
    assert f'{SETTINGS}:' in json.dumps(answer.get('error')), answer
    gateway.router.put(SETTINGS, good.encode(), '0600')
    answer = gateway.call('reload')
    assert 'error' not in answer, answer
    assert gateway.pid() == before, 'it was started anew'


@check
def actions(gateway):
    """service smtprelay check, queue, restart, stop and start do what they say"""
    for action in ('check', 'queue'):
        code, said = gateway.service(action)
        assert code == 0, (action, code, said)
    before = gateway.pid()
    assert gateway.service('restart')[0] == 0
    gateway.replaced(before)
    gateway.running()
    begun = time.monotonic()
    assert gateway.service('stop')[0] == 0
    gateway.stopped()
    gateway.router.note(f'stopped after {time.monotonic() - begun:.1f} s\n')
    assert not gateway.is_bound(), 'port 25 is still open'
    gateway.start()


@check
def restarts(gateway):
    """Restarted ten times under load it loses nothing that it accepted"""
    accepted, ended = [], threading.Event()

    def load():
        while not ended.is_set():
            try:
                accepted.append(gateway.send())
            except (OSError, smtplib.SMTPException):
                pass  # it was not there, or not any more: the device knows

    sender = threading.Thread(target=load)
    sender.start()
    try:
        for _ in range(10):
            before, count = gateway.pid(), len(accepted)
            assert gateway.service('restart')[0] == 0
            gateway.replaced(before)
            until('it takes mail again', lambda: len(accepted) > count + 1)
    finally:
        ended.set()
        sender.join()
    gateway.joined()
    until('nothing waits', lambda: gateway.call('status')['queue']['messages'] == 0, 300)
    arrived = re.findall(r'^Subject: (\S+)', ''.join(text for *_, text in list(gateway.provider.messages)), re.M)
    lost = sorted(set(accepted) - set(arrived))
    twice = len(arrived) - len(set(arrived))
    gateway.router.note(f'{len(accepted)} accepted, {len(lost)} lost, {twice} twice\n')
    assert not lost, f'lost {lost[:5]}, {len(lost)} of {len(accepted)}'


@check
def upgrade(gateway):
    """A start after an upgrade of the program runs the new one; without one it changes nothing"""
    before = gateway.pid()
    assert gateway.service('start')[0] == 0
    gateway.joined()
    assert gateway.pid() == before, 'a second start started it anew'
    # Another content, the same program: bytes behind the end are ignored.
    gateway.router.sh('cd /usr/sbin && cp -p smtprelay smtprelay.new && echo >>smtprelay.new && mv smtprelay.new smtprelay')
    assert gateway.service('start')[0] == 0
    until('the new program runs', lambda: gateway.pid() not in (None, before))
    gateway.running()
    gateway.arrives(gateway.send())


@check
def set_up(gateway):
    """smtprelay setup: asked for nothing but the password it writes the settings, starts the gateway, sends a test mail"""
    gateway.service('stop')
    gateway.router.sh('uci set smtprelay.main.enabled=0; uci commit smtprelay')
    code, said = gateway.router.run('smtprelay status 2>&1')
    assert code == 69 and 'smtprelay setup' in said, said
    provider, before = gateway.provider, len(gateway.provider.messages)
    code, said = gateway.router.run(
        f"echo '{provider.PASSWORD}' | smtprelay setup {provider.USER} --account provider --host {provider.address} "
        f'--port {provider.port} --tls implicit 2>&1')
    assert code == 0 and 'works: the test mail to' in said, said
    assert len(provider.messages) == before + 1, provider.messages
    assert gateway.service('enabled')[0] == 0
    gateway.running()
    gateway.joined()
    gateway.arrives(gateway.send())


# --- Networks

@check
def address_changes(gateway):
    """netifd gives the network another address: port 25 is open there, closed at the old one, sessions go on"""
    device = network(gateway, '192.168.254.1')
    device.quit()
    device, before = smtplib.SMTP('192.168.254.1', 25, timeout=30), gateway.pid()
    device.ehlo('plc')
    gateway.router.sh("uci set network.relaytest.ipaddr='192.168.254.9/24'; uci commit network; ubus call network reload")
    until('port 25 is open at the new address', lambda: gateway.is_bound('192.168.254.9'))
    until('port 25 is closed at the old address', lambda: not gateway.is_bound('192.168.254.1'))
    gateway.arrives(gateway.send(smtplib.SMTP('192.168.254.9', 25, timeout=30)))
    assert gateway.is_bound(), 'the LAN was left'
    assert gateway.pid() == before, 'it was started anew'


@check
def unseen_address(gateway):
    """An address that netifd and procd know nothing of gets its port 25 as well"""
    device = json.loads(gateway.router.sh('ifstatus lan'))['l3_device']
    gateway.change('smtprelay.third=listener', f'smtprelay.third.interface={device}', 'smtprelay.third.port=25')
    before, address = gateway.pid(), '192.168.253.1'
    notes = [one['note'] for one in gateway.call('status')['listeners'] if one['name'] == 'third']
    assert notes and all('already' in (note or '') for note in notes), notes
    gateway.router.sh(f'ip address add {address}/24 dev {device}')
    try:
        until('port 25 is open', lambda: gateway.is_bound(address))
    finally:
        gateway.router.sh(f'ip address delete {address}/24 dev {device}')
    until('port 25 is closed', lambda: not gateway.is_bound(address))
    assert gateway.pid() == before, 'it was started anew'
    gateway.change('delete smtprelay.third')


def network(gateway, address):
    """A second network on the device of the LAN, with a listener; a device at its port 25."""
    gateway.router.sh(f"""uci set network.relaytest=interface; uci set network.relaytest.proto=static
        uci set network.relaytest.device=@lan; uci set network.relaytest.ipaddr='{address}/24'; uci commit network
        ubus call network reload; ifup relaytest""")
    gateway.router.sh(f"""uci set smtprelay.second=listener; uci set smtprelay.second.interface=relaytest
        uci set smtprelay.second.port=25; uci set smtprelay.second.allow='{gateway.own}'; uci commit; reload_config""")
    until('port 25 is open on the second network', lambda: gateway.is_bound(address))
    try:
        return smtplib.SMTP(address, 25, timeout=10)
    except OSError as error:
        raise Skip(f'{address} can\'t be reached from here ({error})') from error


@check
def network_down_and_up(gateway):
    """A network that goes down and comes up again has its port 25 again"""
    network(gateway, '192.168.254.1').quit()
    before = gateway.pid()
    for _ in range(2):
        gateway.router.sh('ifdown relaytest')
        until('port 25 is closed', lambda: not gateway.is_bound('192.168.254.1'))
        note = [one['note'] for one in gateway.call('status')['listeners'] if one['name'] == 'second']
        assert note and note[0], note
        gateway.router.sh('ifup relaytest')
        until('port 25 is open again', lambda: gateway.is_bound('192.168.254.1'))
    gateway.arrives(gateway.send(smtplib.SMTP('192.168.254.1', 25, timeout=30)))
    assert gateway.pid() == before, 'it was started anew'
    gateway.change('delete smtprelay.second')
    until('port 25 is closed', lambda: not gateway.is_bound('192.168.254.1'))


# --- Jail and hook

@check
def jail(gateway):
    """The service runs in a jail where there is ujail, and reload works through it"""
    if gateway.router.run('[ -x /sbin/ujail ]')[0] != 0:
        raise Skip('this OpenWrt has no ujail')
    if JAIL == '0':
        raise Skip('OPENWRT_JAIL is 0')
    code, said = gateway.router.run('smtprelay jail-mounts')
    assert code == 0, said
    assert 'jail' in gateway.instance(), gateway.instance()
    root = gateway.router.sh(f'ls /proc/{gateway.pid()}/root/ /proc/{gateway.pid()}/root/etc')
    assert 'shadow' not in root and 'uhttpd' not in root, root
    gateway.router.run(f'cat /proc/{gateway.pid()}/mounts')


@check
def certificate_renewed(gateway):
    """A renewed certificate is presented after a reload, with its key that only root may read"""
    def fingerprint():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with smtplib.SMTP_SSL(gateway.address, 465, timeout=30, context=context) as device:
                return hashlib.sha256(device.sock.getpeercert(True)).hexdigest()
        except OSError:
            return ''  # in a jail that does not show these files yet it is started anew
    router = gateway.router
    made = [renew(router) for _ in range(2)]
    put_certificate(router, made[0])
    gateway.set('smtprelay.tls=listener', f'add_list smtprelay.tls.address={gateway.address}', 'smtprelay.tls.port=465',
                'smtprelay.tls.tls=implicit', f'smtprelay.tls.allow={gateway.own}',
                f'smtprelay.tls.certificate={CERTIFICATE}', f'smtprelay.tls.key={CERTIFICATE}.key')
    try:
        until('the first certificate is presented', lambda: fingerprint() == made[0][2])
        put_certificate(router, made[1])
        assert gateway.service('reload')[0] == 0
        assert fingerprint() == made[1][2], 'the renewed certificate is not presented'
    finally:
        gateway.set('delete smtprelay.tls')
        until('port 465 is closed', lambda: not gateway.is_bound(port=465))
        gateway.service('restart')
        gateway.running()
        gateway.joined()
        router.sh(f'rm -f {CERTIFICATE} {CERTIFICATE}.key')


def renew(router):
    """A key and its certificate, both PEM, and the SHA-256 of the latter."""
    key = subprocess.run(['openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout'], check=True, stdout=subprocess.PIPE).stdout
    text = subprocess.run(['openssl', 'req', '-x509', '-key', '/dev/stdin', '-days', '30', '-subj', '/CN=router'], input=key,
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return key, text, hashlib.sha256(ssl.PEM_cert_to_DER_cert(text.decode())).hexdigest()


def put_certificate(router, made):
    """Replaces the files, as programs that renew certificates do."""
    router.put(f'{CERTIFICATE}.key', made[0], '0600')
    router.put(CERTIFICATE, made[1])


@check
def keeper_killed(gateway):
    """When what procd watches is killed, the gateway ends in order and is started anew, with its mail"""
    gateway.provider.refusing = True
    word, before = gateway.send(), gateway.pid()
    gateway.router.sh(f'kill -9 {gateway.instance()["pid"]}')
    gateway.replaced(before)
    until('the former one has ended', lambda: gateway.router.run(f'[ ! -e /proc/{before} ]', quiet=True)[0] == 0)
    sends_again(gateway, word)


@check
def directory_made_anew(gateway):
    """Directories that were removed are seen again after a reload: a password can be stored"""
    secrets = gateway.router.sh('smtprelay show | sed -n "s/.*option secrets \'\\(.*\\)\'/\\1/p"').strip() or '/etc/smtprelay'
    gateway.router.sh(f'rm -rf /tmp/smtprelay-secrets; [ ! -e {secrets} ] || mv {secrets} /tmp/smtprelay-secrets')
    try:
        before = gateway.pid()
        assert gateway.service('reload')[0] == 0
        if 'jail' in gateway.instance():
            gateway.replaced(before)
        gateway.running()
        gateway.joined()
        answer = gateway.call('set_password', account='provider', password='not used')
        assert 'error' not in answer, answer
        gateway.router.sh(f'[ -s {secrets}/provider.password ]')
    finally:
        gateway.router.sh(f'rm -rf {secrets}; [ ! -e /tmp/smtprelay-secrets ] || mv /tmp/smtprelay-secrets {secrets}')
        gateway.service('restart')
        gateway.running()
        gateway.joined()


@check
def allowed_devices(gateway):
    """A device on a network that a listener names is shown as allowed"""
    gateway.arrives(gateway.send())
    device = next(one for one in gateway.call('devices')['devices'] if one['client'] == gateway.own)
    assert device['allowed'] is True, device


@check
def name_servers(gateway):
    """Where the name servers may change there is no jail; where they are the router itself there is one again"""
    if 'jail' not in gateway.instance():
        raise Skip('there is no jail')
    if gateway.router.run('[ "$(readlink /etc/resolv.conf)" = /tmp/resolv.conf ]')[0] != 0:
        raise Skip('/etc/resolv.conf is not the link that OpenWrt has')
    gateway.router.sh("mv /tmp/resolv.conf /tmp/smtprelay-resolv-kept; echo 'nameserver 192.0.2.53' >/tmp/resolv.conf")
    try:
        assert gateway.service('reload')[0] == 0
        until('it runs without a jail', lambda: 'jail' not in gateway.instance() and gateway.pid())
    finally:
        gateway.router.sh('mv /tmp/smtprelay-resolv-kept /tmp/resolv.conf')
    gateway.running()
    assert gateway.service('reload')[0] == 0
    until('it runs in a jail', lambda: 'jail' in gateway.instance() and gateway.pid())
    gateway.running()


@check
def hook(gateway):
    """Scripts of /etc/hotplug.d/smtprelay run as root with ACTION; there is no jail then"""
    script = '( id; env ) >>/tmp/smtprelay-hook-said\n'
    gateway.router.sh('mkdir -p /etc/hotplug.d/smtprelay; rm -f /tmp/smtprelay-hook-said')
    gateway.router.put('/etc/hotplug.d/smtprelay/99-test', script.encode())
    gateway.service('restart')
    gateway.running()
    assert 'jail' not in gateway.instance(), gateway.instance()
    rights(gateway)
    gateway.change('smtprelay.provider.password=wrong')
    word = gateway.send()
    until('the hook was run', lambda: gateway.router.run('grep ACTION=paused /tmp/smtprelay-hook-said', quiet=True)[0] == 0)
    # It was run at the start, too: whatever a script has switched on before is over.
    said = gateway.router.sh('cat /tmp/smtprelay-hook-said')
    assert 'uid=0(root)' in said and 'SMTPRELAY_ACCOUNT=provider' in said, said
    assert gateway.provider.PASSWORD not in said and 'wrong\n' not in said, said
    gateway.set(f'smtprelay.provider.password={gateway.provider.PASSWORD}')
    gateway.arrives(word)
    gateway.router.sh('rm /etc/hotplug.d/smtprelay/99-test; rmdir /etc/hotplug.d/smtprelay')


# --- Boot, shutdown

@check
def wrong_at_boot(gateway):
    """With wrong settings it does not start and says why; the next change of the settings starts it"""
    gateway.service('stop')
    gateway.stopped()
    gateway.router.sh(f"sed -i \"s/option port '25'/option port 'soon'/\" {SETTINGS}; reload_config")
    code, said = gateway.service('boot')
    assert code != 0 and 'soon' in said and not gateway.pid(), (code, said)
    assert gateway.log('was not started'), 'the log says nothing'
    gateway.set('smtprelay.lan.port=25')
    gateway.running()


@check
def switched_off(gateway):
    """option enabled 0 stops it, 1 starts it, with reload_config alone"""
    gateway.set('smtprelay.main.enabled=0')
    gateway.stopped()
    gateway.set('smtprelay.main.enabled=1')
    gateway.running()


@check
def shutdown(gateway):
    """At shutdown the queue goes to safe_spool, and the next start sends it"""
    gateway.joined()
    gateway.provider.refusing = True
    words = [gateway.send() for _ in range(3)]
    code, said = gateway.service('shutdown')
    assert code == 0 and not gateway.pid(), (code, said)
    # By number: ls cuts names of owners after eight letters.
    owner = gateway.router.sh('id -u smtprelay').strip()
    safe = gateway.router.sh(f'ls -lnR {SAFE}')
    assert len(re.findall(rf'^-\S+ +\d+ {owner} ', safe, re.M)) >= len(words), safe
    # As after a reboot: what was in memory is gone.
    gateway.router.sh(f'rm -rf {PLACE}')
    gateway.provider.refusing = False
    reboot = os.environ.get('OPENWRT_REBOOT')
    if reboot:
        subprocess.run(reboot, shell=True, check=True)
        until('the router is there', lambda: gateway.router.run('ubus -t 60 wait_for network')[0] == 0, 300)
    else:
        gateway.service('boot')
    gateway.running()
    for word in words:
        gateway.arrives(word)


# --- The log, and secrets

@check
def log(gateway):
    """Lines in the log are well formed: one tag, no doubled time, no control characters"""
    lines = gateway.log('event=')
    assert lines, 'nothing in the log'
    form = re.compile(r'^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} mail\.\w+ smtprelay\[\d+\]: event=\w+( \w+=("[^"]*"|\S*))*$')
    for line in lines:
        assert form.match(line), line
    others = [line for line in gateway.log('smtprelay') if 'daemon.err smtprelay' in line]
    assert not others, others


@check
def secrets(gateway):
    """No password in log, process list, ubus, or files that others can read"""
    gateway.arrives(gateway.send())
    word = gateway.provider.PASSWORD
    places = {
        'log': 'logread', 'process list': 'ps w; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"',
        'procd': 'ubus call service list', 'status': 'ubus call smtprelay status', 'history': 'ubus call smtprelay history',
        'show': 'smtprelay show',
    }
    for place, line in places.items():
        # The line that is run must not name the word: it would find itself.
        found = gateway.router.run(line)[1]
        assert word not in found, f'{place} shows the password'
    gateway.router.put('/tmp/smtprelay-word', word.encode(), '0600')
    found = gateway.router.run('for d in /etc /tmp /var /root; do find $d -xdev -type f -perm -004 -exec '
                               'grep -lFf /tmp/smtprelay-word {} + 2>/dev/null; done; rm /tmp/smtprelay-word')[1]
    assert not found.strip(), f'others can read the password in {found}'


@check
def log_restarts(gateway):
    """When logd has started anew, the gateway's lines are in its log"""
    gateway.router.sh('/etc/init.d/log restart')
    until('logd runs', lambda: gateway.router.run('logread')[0] == 0)
    gateway.arrives(gateway.send())
    until('the log tells of the mail', lambda: gateway.log('event=delivered'))
    gateway.router.run('logread -e smtprelay')
    gateway.service('restart')
    gateway.running()
    gateway.arrives(gateway.send())
    until('the log tells of it as always', lambda: [line for line in gateway.log('event=delivered') if 'mail.info' in line])
