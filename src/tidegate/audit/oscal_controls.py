"""Which controls Tidegate gives evidence for, what it claims, and which ones no software shows.

The mapping is ours. Titles and claims are in our own words; the standards' texts are:
NIST SP 800-53 Rev. 5; SL5 Standard for AI Security v0.1 (an overlay of it, https://standard.sl5.org);
RAND RR-A2849-1, "Securing AI Model Weights" (2024); Anthropic, "Activating AI Safety Level 3
Protections" (2025); EU General-Purpose AI Code of Practice, Safety and Security chapter (10 July
2025), Measure 6.2 and Appendix 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidegate.audit.oscal_measures import (
    Measure,
    appraisals,
    approvals_signed,
    attested_releases,
    bench,
    log_whole,
    reads_settled,
    reexecuted,
    releases,
    uploads,
)


@dataclass(frozen=True, slots=True)
class Named:
    """A measure under the name by which observations are known."""

    name: str
    title: str
    measure: Measure


@dataclass(frozen=True, slots=True)
class Control:
    """A control that software can say something about.

    `claim` is what a pass shows, no more. `assumptions` are what it rests on besides the evidence.
    """

    id: str
    standard: str
    title: str
    claim: str
    measures: tuple[Named, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unshown:
    """A control that no software can show, and why."""

    id: str
    standard: str
    title: str
    why: str


GATE: Final = Named(
    "gate-caps",
    "The gate's caps under attack",
    bench(
        "gate",
        "overshoot_packets",
        "reload_leak_bytes",
        "undercounted_after_kills",
        "meters_disagree_bytes",
        "thief_over_cap",
    ),
)
UPLOADS: Final = Named("upload-checkpoints", "The upload ledger in the log", uploads)
REEXECUTED: Final = Named("re-execution", "Bits that answers could hide", reexecuted)
CHANNELS: Final = Named(
    "channel-attackers",
    "Attackers against the bound on hidden bits",
    bench("verify", "attackers_above_bound", "exact.leak_share"),
)
RELEASES: Final = Named("dual-approvals", "Approvals behind released keys", releases)
SIGNED: Final = Named("signed-approvals", "Hardware keys behind approvals", approvals_signed)
ATTESTED: Final = Named("attested-releases", "Hardware evidence behind releases", attested_releases)
APPRAISED: Final = Named("appraisals", "Hardware evidence appraised", appraisals)
LOG: Final = Named("log-whole", "The transparency log recomputed", log_whole)
READS: Final = Named("reads-settled", "Reads of weights against grants", reads_settled)

ONE_PATH: Final = "all traffic out of the weights' zone goes through the gate that was measured"
SAME_CODE: Final = "production runs the code and the policy that the benchmark ran"
LOGS_WHOLE: Final = "the access logs are complete where no gap is reported"
PEOPLE: Final = "every person holds one account and their own hardware key"
WITNESSES: Final = "not all witnesses of a quorum work together with the log's owner"
MAKERS: Final = "the hardware makers' keys and roots of trust are sound"
COPY: Final = "weights lie nowhere but in the sealed shards and on the hosts that were granted them"
RECORDED: Final = "every answer that left was recorded"

_NIST: Final = "NIST SP 800-53 Rev. 5"
_SL5: Final = "SL5 Standard v0.1"
_RAND: Final = "RAND RR-A2849-1"
_ASL: Final = "Anthropic ASL-3"
_EU: Final = "EU GPAI Code of Practice"

_EGRESS: Final = (
    "What leaves stays under a cap in bytes, over reloads, kills and a thief that tries, and the "
    "ledger that charges it is in a log that cannot be rewritten unseen"
)
_DUAL: Final = (
    "No data key was released without approvals of two people of two teams, none of them the "
    "requester"
)
_FLOW: Final = "Storage served weights to nobody but under a grant, as far as its logs show"
_COVERT: Final = "Hidden bits in answers were bounded by re-execution, and attackers stay under it"

CONTROLS: Final[tuple[Control, ...]] = (
    Control(
        "sc-7.10", _NIST, "Prevent exfiltration", _EGRESS, (GATE, UPLOADS), (ONE_PATH, SAME_CODE)
    ),
    Control(
        "sc-31",
        _NIST,
        "Covert channel analysis",
        _COVERT,
        (REEXECUTED, CHANNELS),
        (RECORDED, SAME_CODE),
    ),
    Control("ac-3.2", _NIST, "Dual authorization", _DUAL, (RELEASES, SIGNED), (PEOPLE, COPY)),
    Control(
        "ac-4",
        _NIST,
        "Information flow enforcement",
        _FLOW,
        (READS, GATE),
        (LOGS_WHOLE, ONE_PATH, COPY),
    ),
    Control(
        "au-10",
        _NIST,
        "Non-repudiation",
        "Approvals are signed by hardware keys, and stand in a log that witnesses cosigned",
        (LOG, SIGNED),
        (WITNESSES, PEOPLE),
    ),
    Control(
        "sl5-ac-3.2",
        _SL5,
        "Dual authorization for covered models",
        _DUAL,
        (RELEASES, SIGNED, LOG),
        (PEOPLE, COPY, WITNESSES),
    ),
    Control(
        "sl5-ac-4",
        _SL5,
        "Information flow out of weight enclaves",
        _FLOW,
        (READS, GATE),
        (LOGS_WHOLE, ONE_PATH, COPY),
    ),
    Control(
        "rand-sl-bandwidth",
        _RAND,
        "Limited output of systems that hold weights",
        _EGRESS,
        (GATE, UPLOADS),
        (ONE_PATH, SAME_CODE),
    ),
    Control(
        "rand-sl-access",
        _RAND,
        "Few people, and never one alone, can reach weights",
        _DUAL,
        (RELEASES, READS),
        (PEOPLE, COPY, LOGS_WHOLE),
    ),
    Control(
        "rand-sl-confidential",
        _RAND,
        "Weights are open only inside attested hardware",
        "Every released key was sealed to a host whose hardware evidence was appraised and passed",
        (ATTESTED, APPRAISED),
        (MAKERS, COPY),
    ),
    Control(
        "asl-3-egress",
        _ASL,
        "Egress bandwidth controls",
        _EGRESS,
        (GATE, UPLOADS),
        (ONE_PATH, SAME_CODE),
    ),
    Control(
        "asl-3-two-party",
        _ASL,
        "Two-party authorization for weights",
        _DUAL,
        (RELEASES, SIGNED),
        (PEOPLE, COPY),
    ),
    Control(
        "asl-3-monitoring",
        _ASL,
        "Monitoring of access to weights",
        _FLOW,
        (READS, LOG),
        (LOGS_WHOLE, WITNESSES),
    ),
    Control(
        "eu-gpai-a4.2",
        _EU,
        "Appendix 4.2: protection of unreleased parameters",
        _DUAL + ", and the host was attested",
        (RELEASES, ATTESTED),
        (PEOPLE, COPY, MAKERS),
    ),
    Control(
        "eu-gpai-a4.3",
        _EU,
        "Appendix 4.3: hardened access through interfaces",
        _EGRESS,
        (GATE, REEXECUTED),
        (ONE_PATH, RECORDED, SAME_CODE),
    ),
    Control(
        "eu-gpai-a4.4",
        _EU,
        "Appendix 4.4: insider threats",
        _FLOW,
        (READS, RELEASES),
        (LOGS_WHOLE, PEOPLE, COPY),
    ),
    Control(
        "eu-gpai-a4.5",
        _EU,
        "Appendix 4.5: assurance by testing",
        "Attackers that know the design were run against the egress cap and the hidden-bit bound",
        (GATE, CHANNELS),
        (SAME_CODE,),
    ),
)

UNSHOWN: Final[tuple[Unshown, ...]] = (
    Unshown(
        "sl5-sc-7.10",
        _SL5,
        "Hardware-enforced limit on outbound flows",
        "SL5 asks for a physical limit; the gate is a kernel, and who owns it opens it. The tap "
        "beside it shows that, and does not prevent it.",
    ),
    Unshown(
        "sl5-sc-7.21",
        _SL5,
        "Isolation of weight enclaves",
        "Whether a cable or another network leads out is seen on the floor, not in a log.",
    ),
    Unshown(
        "sl5-sc-8.1",
        _SL5,
        "Encryption between accelerators",
        "It is the accelerators' own; evidence says what their firmware claims.",
    ),
    Unshown("sl5-sc-15.3", _SL5, "No wireless or collaborative devices near weights", "Physical."),
    Unshown(
        "sl5-pe-3.8",
        _SL5,
        "Access control vestibules and facilities",
        "Physical; so are all of PE.",
    ),
    Unshown("sl5-pe-19.1", _SL5, "Emanations", "Needs instruments outside the machine."),
    Unshown("sl5-ps-3", _SL5, "Personnel screening", "About people; so are PS-2 and PS-6."),
    Unshown(
        "sl5-pm-12",
        _SL5,
        "Insider threat programme",
        "An organisation's, of which the audit's findings are one input.",
    ),
    Unshown(
        "sl5-sa-4",
        _SL5,
        "Supply chain of hardware and software",
        "A log cannot show what was built into a chip.",
    ),
    Unshown(
        "rand-sl-physical",
        _RAND,
        "Physical bandwidth limits and isolated networks",
        "As for SL5: software meters, and cannot be the wire.",
    ),
    Unshown(
        "rand-sl-people",
        _RAND,
        "Vetting, and independence of approvers",
        "Two accounts may be one person, and two people one interest.",
    ),
    Unshown(
        "asl-3-endpoints",
        _ASL,
        "Endpoint software control",
        "Enforced on staff's machines, which Tidegate does not see.",
    ),
    Unshown(
        "asl-3-third-party",
        _ASL,
        "Third-party environments and independent audit",
        "An audit by others; this report is material for it, not the audit.",
    ),
    Unshown(
        "eu-gpai-a4.1",
        _EU,
        "Appendix 4.1: general security of the organisation",
        "Networks, identities, training and removable media of the whole organisation.",
    ),
)
