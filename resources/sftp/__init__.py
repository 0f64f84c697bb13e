"""Folders of SFTP servers as source and destination; imports no driver before something is opened."""

from resources.sftp.resource import CONNECTOR as CONNECTOR
