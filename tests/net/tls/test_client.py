"""TLS of outgoing connections."""

import ssl

import pytest

from elemta.net.tls import unverified_context, verified_context


@pytest.mark.parametrize("make", [unverified_context, verified_context])
def test_no_compression_no_renegotiation_nothing_old(make):
    context = make()
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
