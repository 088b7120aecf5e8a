"""The settings of `attachments`."""

from typing import Literal

from pydantic import Field

from elemta.plugins.builtin._mime import InspectionSettings, Limits

Action = Literal["continue", "tag", "strip", "quarantine", "defer", "reject"]

_EXECUTABLE = (
    "ade adp apk appinstaller application appref-ms appx appxbundle bat chm cmd com cpl "
    "desktop diagcab dll drv exe gadget hta inf ins iqy isp jar jnlp js jse lnk mde msc msi msix "
    "msixbundle msp mst ocx pif ps1 ps1xml psc1 reg scf scr sct search-ms settingcontent-ms shb "
    "shs sys url vb vbe vbs vxd website ws wsc wsf wsh xll"
)


class AttachmentsSettings(InspectionSettings):
    """What is not wanted, and what becomes of it."""

    extensions: frozenset[str] = Field(
        default=frozenset(_EXECUTABLE.split()),
        description="Extensions of files that can be run, in lower case and without the dot.",
    )
    types: frozenset[str] = Field(
        default=frozenset({
            "application/x-msdownload", "application/x-msdos-program", "application/x-dosexec",
            "application/x-ms-installer", "application/hta", "message/partial",
        }),
        description="Declared types that count as such files. `message/partial` is a piece of "
        "something that nobody can look into.",
    )  # fmt: skip
    on_executable: Action = Field(
        default="reject",
        description="What becomes of a message with a file that can be run, by its extension, "
        "type or first octets, also in an archive: `reject` (550 5.7.1), `defer`, `quarantine`, "
        "`strip` (a text takes the place of the attachment), `tag` or `continue`.",
    )
    on_disguised: Action = Field(
        default="tag",
        description='The same for names that look like others: "a.exe.pdf", or with characters '
        "that turn the direction of writing.",
    )
    on_mismatch: Action = Field(
        default="tag", description="The same for files that are not what their extension says."
    )
    on_encrypted: Action = Field(
        default="tag", description="The same for encrypted files in archives."
    )
    on_opaque: Action = Field(
        default="tag",
        description="The same for archives that are known but not looked into: 7z, rar, cab...",
    )
    max_layers: int = Field(
        default=5,
        ge=1,
        le=20,
        description="Archives and attached messages within each other; more are too much.",
    )
    max_entries: int = Field(
        default=5000,
        ge=1,
        le=100_000,
        description="Files in all archives of a message; more are too much.",
    )
    max_unpacked: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="Octets that come out of all archives of a message; more are too much.",
    )
    max_ratio: int = Field(
        default=250,
        ge=1,
        le=10_000,
        description="How many times its size an archive may grow to, above the first MiB.",
    )

    @property
    def limits(self) -> Limits:
        return Limits(
            parts=self.max_parts,
            entries=self.max_entries,
            layers=self.max_layers,
            unpacked=self.max_unpacked,
            ratio=self.max_ratio,
        )
