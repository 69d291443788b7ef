"""Cases of NVIDIA devices: GPUs and switches, alone and in files of several."""

from __future__ import annotations

import base64

from evidence_authorities import drawn, ec_key, root
from evidence_cases_rim import documents, tokens
from evidence_intel import pem
from evidence_nvidia import (
    DEVICES,
    DRIVER,
    FIRMWARE,
    NVDEC,
    RIMS,
    Device,
    driver_rim,
    firmware_rim,
    rim_signer,
    saved,
)
from evidence_nvidia_maker import (
    ALONE,
    BLACKWELL,
    CHAIN,
    CHIP,
    DATED,
    FRESH,
    HOPPER,
    MEASURES,
    ORDER,
    PAST,
    REVOKED,
    RUNS,
    SIGNED,
    SWITCH,
    Maker,
    rooted,
    taken,
    theirs,
)
from evidence_vectors import EvidenceFile


def nvidia_file() -> EvidenceFile:
    """Every case of a device, of reference values and of a token."""
    made = Maker()
    _passing(made)
    _keys(made)
    _measurements(made)
    _files(made)
    documents(made)
    tokens(made)
    return EvidenceFile("spec/evidence.md", made.blobs.encoded(), made.cases)


def _passing(made: Maker) -> None:
    made.device("a Hopper, all as it should be", "pass")
    made.device(
        "a Blackwell, whose certificate has its firmware's id elsewhere", "pass", device=BLACKWELL
    )
    made.device("an NVSwitch, which has no driver", "pass", device=SWITCH)
    made.device("zeros to the end of the buffer", "pass", report=HOPPER.report() + bytes(9))
    made.device(
        "versions that the policy names",
        "pass",
        policy={"drivers": [DRIVER], "firmware": [FIRMWARE]},
    )
    made.device(
        "a report that names no firmware, as old ones do",
        "pass",
        report=HOPPER.report(fields={20: None}),
    )


def _keys(made: Maker) -> None:
    burnt, maker = HOPPER.line()
    made.device(
        "a chip that nobody knows",
        "cannot_verify",
        [CHIP, theirs("driver"), theirs("firmware"), MEASURES],
        device=Device("four", "GX900"),
        rims=[],
    )
    made.device(
        "a switch's report under a GPU's certificate",
        "fail",
        [CHIP],
        report=HOPPER.report(fields={26: bytes(128)}),
    )
    made.device("text after the report", "fail", [ALONE], report=HOPPER.report() + b"more")
    made.device(
        "text after the report, which the policy takes",
        "pass",
        report=HOPPER.report() + b"more",
        policy={"trailing": True},
    )
    made.device("a root that is not trusted", "fail", [CHAIN], pin=drawn("no root", 32))
    made.device(
        "the leaf alone",
        "cannot_verify",
        [CHAIN],
        chain=pem(HOPPER.leaf()),
    )
    made.device("a leaf that has ended", "fail", [DATED], chain=HOPPER.chain(HOPPER.leaf(end=PAST)))
    other = root("Made-up Device Identity CA, another")
    made.device(
        "a maker that is not below the root",
        "fail",
        [CHAIN],
        chain=pem(
            HOPPER.leaf(),
            burnt.certificate,
            other.authority(maker.common, "forger", serial=2).certificate,
            DEVICES.certificate,
        ),
    )
    lists = [maker.revoke(99), DEVICES.revoke(99)]
    made.device(
        "asked after revocation, with lists",
        "pass",
        revocation=True,
        crls=[*lists, RIMS.revoke(99)],
    )
    made.device(
        "a burnt-in key that was revoked",
        "fail",
        [REVOKED],
        revocation=True,
        crls=[maker.revoke(3), DEVICES.revoke(99), RIMS.revoke(99)],
    )
    made.device(
        "asked after revocation, without lists",
        "cannot_verify",
        [REVOKED, *(f"{what} reference values' key chain is not revoked" for what in _BOTH)],
        revocation=True,
    )
    made.device(
        "asked after revocation, without lists, where the policy does not ask",
        "pass",
        revocation=True,
        policy={"revocation": False},
    )
    _chains_alone(made)
    made.device("signed by another key", "fail", [SIGNED], report=HOPPER.report(signer="forger"))
    made.device(
        "another firmware than the certificate is of",
        "fail",
        [RUNS],
        report=HOPPER.report(fields={20: drawn("other firmware", 48)}),
    )
    plain = burnt.certify(f"{HOPPER.chip} A01 FMC LF", ec_key("firmware one"), b"", serial=4)
    made.device(
        "a certificate that names no firmware", "cannot_verify", [RUNS], chain=HOPPER.chain(plain)
    )
    made.device("an old nonce", "fail", [FRESH], nonce=drawn("older nonce", 32).hex())
    made.device("nobody asked for a nonce", "cannot_verify", [FRESH], nonce=None)


def _chains_alone(made: Maker) -> None:
    burnt, maker = HOPPER.line()
    for note, middle in (
        ("a certificate more than the chain", (burnt.certificate, SWITCH.leaf())),
        (
            "a second certificate that names another device",
            (Device("two").line()[0].certificate, burnt.certificate),
        ),
    ):
        ders = (HOPPER.leaf(), *middle, maker.certificate, DEVICES.certificate)
        made.device(note, "fail", [ORDER], chain=pem(*ders))
    turned = (HOPPER.leaf(), maker.certificate, burnt.certificate, DEVICES.certificate)
    made.device("a chain out of order", "malformed", chain=pem(*turned))


_BOTH = ("driver", "firmware")


def _measurements(made: Maker) -> None:
    wrong = drawn("wrong", 48)
    made.device(
        "no reference values",
        "cannot_verify",
        [theirs("driver"), theirs("firmware"), MEASURES],
        rims=[],
    )
    made.device(
        "the driver's reference values alone",
        "cannot_verify",
        [theirs("firmware"), MEASURES],
        rims=[driver_rim(HOPPER)],
    )
    made.device(
        "reference values of another driver",
        "cannot_verify",
        [theirs("driver"), MEASURES],
        rims=[driver_rim(Device("x", driver="550.02")), firmware_rim(HOPPER)],
    )
    made.device(
        "two documents for one driver",
        "cannot_verify",
        [theirs("driver"), MEASURES],
        rims=[
            driver_rim(HOPPER),
            driver_rim(HOPPER, values={5: [wrong]}),
            firmware_rim(HOPPER),
        ],
    )
    for index, what in ((5, "driver"), (1, "firmware")):
        made.device(
            f"another {what} than its reference values",
            "fail",
            [MEASURES],
            report=HOPPER.report(changed={index: wrong}),
        )
    made.device(
        "a measurement without reference value may be anything",
        "pass",
        report=HOPPER.report(changed={20: wrong}),
    )
    made.device(
        "the decoder's measurement is left alone where it is off",
        "pass",
        report=HOPPER.report(changed={NVDEC: wrong}),
    )
    made.device(
        "and compared where it is on",
        "fail",
        [MEASURES],
        report=HOPPER.report(fields={11: b"\xaa"}),
    )
    made.device(
        "two documents with one measurement",
        "fail",
        [MEASURES],
        rims=[driver_rim(HOPPER, values={1: [wrong]}), firmware_rim(HOPPER)],
    )
    made.device(
        "a reference value beyond the report",
        "fail",
        [MEASURES],
        rims=[driver_rim(HOPPER, values={60: [wrong]}), firmware_rim(HOPPER)],
    )
    for what, policy in (("driver", {"drivers": ["560.00"]}), ("firmware", {"firmware": ["1"]})):
        made.device(f"a {what} that the policy does not take", "fail", [taken(what)], policy=policy)
    made.device(
        "a report that names no driver",
        "fail",
        [taken("driver"), MEASURES],
        report=HOPPER.report(fields={3: None}),
    )
    made.device(
        "a report that names no firmware version",
        "fail",
        [taken("firmware"), MEASURES],
        report=HOPPER.report(fields={6: None}),
    )
    made.device(
        "the driver's reference values by a forger",
        "fail",
        [theirs("driver"), MEASURES],
        rims=[driver_rim(HOPPER, signer="forger"), firmware_rim(HOPPER)],
    )
    made.device(
        "the firmware's reference values by a forger",
        "fail",
        [theirs("firmware"), MEASURES],
        rims=[driver_rim(HOPPER), firmware_rim(HOPPER, signer="forger")],
    )
    made.device(
        "reference values under a root that is not trusted",
        "fail",
        [*(rooted(what) for what in _BOTH), MEASURES],
        policy={"rim_roots": [drawn("no root", 32).hex()]},
    )
    ended = (rim_signer(end=PAST), RIMS.certificate)
    made.device(
        "reference values whose signer's certificate has ended",
        "fail",
        [f"{what} reference values' key chain is in date" for what in _BOTH],
        rims=[make(HOPPER, certificates=ended) for make in (driver_rim, firmware_rim)],
    )
    made.device(
        "reference values whose signer was revoked",
        "fail",
        [f"{what} reference values' key chain is not revoked" for what in _BOTH],
        revocation=True,
        crls=[HOPPER.line()[1].revoke(99), DEVICES.revoke(99), RIMS.revoke(5)],
    )


def _files(made: Maker) -> None:
    policy = {"rim_roots": [RIMS.pin.hex()]}
    rims = [driver_rim(HOPPER), firmware_rim(HOPPER), firmware_rim(SWITCH)]
    other = Device("two")
    names = [
        f"device {place}, {kind} {one.pdi.hex()}"
        for place, (kind, one) in enumerate(
            (("nvidia-gpu", HOPPER), ("nvidia-gpu", other), ("nvidia-switch", SWITCH))
        )
    ]
    entries = [one.saved() for one in (HOPPER, other, SWITCH)]
    made.file(
        "three devices in one file",
        "pass",
        name="saved",
        data=saved(*entries),
        others=rims,
        policy=policy,
    )
    made.file(
        "three devices in one file, without reference values",
        "cannot_verify",
        names,
        name="saved",
        data=saved(*entries),
        policy=policy,
    )
    for field, value in (
        ("nonce", "00" * 32),
        ("arch", "BLACKWELL"),
        ("driver_version", "1"),
        ("vbios_version", "1"),
        ("unheard", "of"),
        ("evidence", "!"),
        ("certificate", base64.b64encode(HOPPER.chain().replace(b"\n", b"\r\n")).decode()),
    ):
        made.file(
            f"a file that says something else of {field}",
            "malformed",
            name=f"saved, {field}",
            data=saved(HOPPER.saved(**{field: value})),
        )
    whole = HOPPER.report()
    for note, data in (
        ("a report that ends early", whole[:-1]),
        ("nothing at all", b""),
        ("another version of SPDM", b"\x12" + whole[1:]),
        ("an answer to another question", whole[:38] + b"\x61" + whole[39:]),
        ("a report without a signature asked for", whole[:2] + b"\0" + whole[3:]),
        ("measurements out of order", whole[:45] + b"\2" + whole[46:]),
        ("a measurement that is not DMTF's", whole[:46] + b"\2" + whole[47:]),
    ):
        made.file(note, "malformed", name="report one", data=data, certificates=[HOPPER.chain()])
    made.file("a report without certificates", "malformed", name="report one", data=whole)
