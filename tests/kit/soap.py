"""A SOAP service by spyne, in a process of its own. It holds twelve invoices and some faults, and knows no connector."""

import sys
import urllib.request
from dataclasses import dataclass, field

from tests.kit.process import SERVICES, ServerProcess, Unavailable, free_port, make_folder

PASSWORD = "soap-canary-word"
SERVICE = """
import datetime, decimal, sys
# spyne is of the services' environment, lxml of the project's.
sys.path.append(sys.argv[1])
from wsgiref.simple_server import WSGIRequestHandler, make_server
from spyne import (Application, Array, Boolean, ByteArray, ComplexModel, Date, DateTime, Decimal, Double, Fault, Integer, Integer32,
                   Iterable, Mandatory, ServiceBase, Unicode, rpc)
from spyne.protocol.soap import Soap11
from spyne.server.wsgi import WsgiApplication

class Line(ComplexModel):
    __namespace__ = "urn:tests"
    product = Unicode
    count = Integer32

class Invoice(ComplexModel):
    __namespace__ = "urn:tests"
    id = Integer32
    customer = Unicode
    amount = Decimal
    rate = Double
    paid = Boolean
    due = Date
    changed = DateTime
    seal = ByteArray
    number = Integer
    lines = Array(Line)

UTC = datetime.timezone.utc
INVOICES = [
    Invoice(id=n, customer=None if n % 5 == 0 else f"c{n} <&>", amount=decimal.Decimal(n) / 8, rate=n / 4, paid=n % 2 == 0,
            due=datetime.date(2024, 1, n), changed=datetime.datetime(2024, 1, n, 12, tzinfo=UTC), seal=[bytes([n, 255])],
            number=10 ** 25 + n, lines=[Line(product=f"p{k}", count=k) for k in range(n % 3)])
    for n in range(1, 13)
]

class Invoices(ServiceBase):
    @rpc(Integer32, Integer32, DateTime, _returns=Array(Invoice))
    def list_invoices(ctx, offset, limit, since):
        found = [each for each in INVOICES if since is None or each.changed >= since]
        return found[offset or 0:(offset or 0) + (limit or 100)]

    @rpc(Unicode, _returns=Array(Invoice))
    def fail(ctx, who):
        raise Fault(faultcode=who, faultstring="it is broken on purpose")

class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

application = Application([Invoices], "urn:tests", in_protocol=Soap11(validator="lxml"), out_protocol=Soap11())
service = WsgiApplication(application)

make_server("127.0.0.1", int(sys.argv[2]), service, handler_class=Quiet).serve_forever()
"""


@dataclass(frozen=True)
class SoapServer:
    """A running server."""

    wsdl: str
    version: str
    process: ServerProcess = field(repr=False)


def start_soap() -> SoapServer:
    """Start a server on a free port.

    Raises:
        Unavailable: spyne is not installed, or does not start; carries its log.
    """
    libraries = next(SERVICES.parent.glob("lib/python3*/site-packages"), None)
    if libraries is None or not (libraries / "spyne").exists():
        msg = "spyne is not installed: run 'make services'"
        raise Unavailable(msg)
    folder, port = make_folder("soap"), free_port()
    script = folder / "service.py"
    script.write_text(SERVICE, encoding="utf-8")
    process = ServerProcess("soap", [sys.executable, script, libraries, str(port)], folder)
    wsdl = f"http://127.0.0.1:{port}/?wsdl"

    def ready() -> None:
        with urllib.request.urlopen(wsdl, timeout=30) as answer:
            answer.read()

    process.wait_until(ready, seconds=60)
    return SoapServer(wsdl, "spyne", process)
