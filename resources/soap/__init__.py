"""Any SOAP service with a WSDL as a source; imports no driver before something is opened."""

from resources.soap.resource import CONNECTOR as CONNECTOR
