"""Scanners of TLS, and what they have found."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.process import program

SSLYZE = Path(__file__).parents[2] / ".venv" / "scan" / "bin" / "sslyze"


@dataclass
class Found:
    """What is spoken, by the names of RFCs, and what is wrong."""

    versions: set[str]
    suites: set[str]
    groups: set[str]
    flaws: set[str]


def scan_by_sslyze(port: int, folder: Path, *, starttls: bool) -> Found:
    """Try every version, suite and group."""
    if not SSLYZE.exists():
        message = "sslyze is not installed: make .venv/scan/.installed"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    output = folder / f"sslyze-{port}.json"
    options = ["--starttls=smtp"] if starttls else []
    _run([SSLYZE, f"--json_out={output}", *options, f"127.0.0.1:{port}"], within=180)
    (server,) = json.loads(output.read_text())["server_scan_results"]
    assert server["connectivity_status"] == "COMPLETED", server["connectivity_error_trace"]
    results = {name: each["result"] for name, each in server["scan_result"].items()}
    offered = {
        each["tls_version_used"]: each["accepted_cipher_suites"]
        for name, each in results.items()
        if name.endswith("_cipher_suites") and each["is_tls_version_supported"]
    }
    return Found(
        versions=set(offered),
        suites={each["cipher_suite"]["name"] for found in offered.values() for each in found},
        groups={each["name"] for each in results["elliptic_curves"]["supported_curves"]},
        flaws=set(_flaws(results, has_tls_1_2="TLS_1_2" in offered)),
    )


def _flaws(results: dict, *, has_tls_1_2: bool):
    if results["tls_compression"]["supports_compression"]:
        yield "compression"
    if results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]:
        yield "CCS injection"
    if results["heartbleed"]["is_vulnerable_to_heartbleed"]:
        yield "Heartbleed"
    if not results["robot"]["robot_result"].startswith("NOT_VULNERABLE"):
        yield "ROBOT"
    renegotiation = results["session_renegotiation"]
    if renegotiation["is_vulnerable_to_client_renegotiation_dos"]:
        yield "renegotiation"
    if not has_tls_1_2:
        return  # what follows is of TLS 1.2
    if not renegotiation["supports_secure_renegotiation"]:
        yield "insecure renegotiation"
    if not results["tls_extended_master_secret"]["supports_ems_extension"]:
        yield "no extended master secret"
    if not results["tls_fallback_scsv"]["supports_fallback_scsv"]:
        yield "no fallback SCSV"


def flaws_by_testssl(port: int, folder: Path, *, starttls: bool) -> tuple[set[str], set[str]]:
    """Try every version and known attack; what is offered, and the names of what is wrong."""
    tool = program("testssl", "testssl.sh")
    output = folder / f"testssl-{port}.json"
    options = ["--quiet", "--color", "0", "--warnings", "off", "-p", "-U", "-n", "none"]
    options += ["--jsonfile", output, *(["-t", "smtp"] if starttls else [])]
    _run([tool, *options, f"127.0.0.1:{port}"], within=280)
    findings = {each["id"]: each for each in json.loads(output.read_text())}
    versions = {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3"}
    offered = {name for name in versions if findings[name]["finding"].startswith("offered")}
    bad = {"LOW", "MEDIUM", "HIGH", "CRITICAL"}
    assert "heartbleed" in findings
    return offered, {name for name, each in findings.items() if each["severity"] in bad}


def _run(argv: list, within: float) -> None:
    subprocess.run(
        [str(each) for each in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=within,
        check=False,
    )
