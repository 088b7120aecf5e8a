"""Seccomp: system calls that a plugin's process cannot make any more, in any of its threads.

The filter is a program for the kernel's classic BPF machine (seccomp(2)): it looks at the number
of a call and at its first argument, and refuses with an error that the caller sees as usual.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SET_FILTER, _ALL_THREADS = 1, 1

_LOAD, _JUMP_EQ, _JUMP_SET, _JUMP_GE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in what the filter is given
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_X32 = 0x40000000  # calls of the x32 ABI, which would go around the numbers
_CLONE_THREAD = 0x10000

# name: numbers on x86_64 and aarch64; None where there is no such call
_NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "open_tree": (428, 428),
    "setpriority": (141, 140),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "personality": (135, 92),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmod": (91, 52),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    # memory that no limit counts, or that outlives the process
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_secret": (447, 447),
    # other processes of ours would have to wait for theirs
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "process_madvise": (440, 440),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SOCKET, _TGKILL, _PRLIMIT = (41, 198), (234, 131), (302, 261)
_MEMFD, _PRCTL, _FCNTL, _IOCTL = (319, 279), (157, 167), (72, 25), (16, 29)
_DEATH_SIGNAL = 1  # of prctl: whether it ends with the worker is not for the plugin to say
_OWNERS = (8, 10, 15)  # of fcntl: which process gets a signal when there is something to read
_SOCKET_OWNERS = (0x8901, 0x8902, 0x5412)  # of ioctl: the same, and input for another terminal


def is_known() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in _ARCH


def forbid(families: Sequence[int], *, memory_files: bool = False) -> None:
    """Take from all threads what a plugin does not need: processes, signals, other sockets.

    Args:
        families: Of sockets that may be made.
        memory_files: Whether files in memory may be made, which no limit of memory counts.

    Raises:
        OSError: The kernel refuses.
    """
    at = 0 if platform.machine() == "x86_64" else 1
    program = _program(at, families, memory_files=memory_files)
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and where they are
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if libc.syscall(_SECCOMP[platform.machine()], _SET_FILTER, _ALL_THREADS, filter_):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _program(at: int, families: Sequence[int], *, memory_files: bool) -> bytes:
    refuse = _op(_RETURN, _REFUSE | errno.EPERM)
    allow = _op(_RETURN, _ALLOW)
    own = os.getpid()
    code = _op(_LOAD, _ARCHITECTURE)
    code += _op(_JUMP_EQ, list(_ARCH.values())[at], 1, 0) + _op(_RETURN, _KILL)
    code += _op(_LOAD, _NUMBER)
    code += _op(_JUMP_GE, _X32, 0, 1) + refuse
    for numbers in _NUMBERS.values():
        number = numbers[at]
        if number is not None:
            code += _op(_JUMP_EQ, number, 0, 1) + refuse
    if not memory_files:
        code += _op(_JUMP_EQ, _MEMFD[at], 0, 1) + refuse
    # libc falls back to clone, whose flags can be looked at
    code += _op(_JUMP_EQ, _CLONE3[at], 0, 1) + _op(_RETURN, _REFUSE | errno.ENOSYS)
    first = _op(_LOAD, _FIRST)
    code += _block(_CLONE[at], first + _op(_JUMP_SET, _CLONE_THREAD, 0, 1) + allow + refuse)
    code += _block(_TGKILL[at], first + _op(_JUMP_EQ, own, 0, 1) + allow + refuse)
    any_of_own = _op(_JUMP_EQ, 0, 1, 0) + _op(_JUMP_EQ, own, 0, 1) + allow + refuse
    code += _block(_PRLIMIT[at], first + any_of_own)
    second = _op(_LOAD, _SECOND)
    for call, load, refused in (
        (_PRCTL, first, (_DEATH_SIGNAL,)),
        (_FCNTL, second, _OWNERS),
        (_IOCTL, second, _SOCKET_OWNERS),
    ):
        tests = b"".join(_op(_JUMP_EQ, each, 0, 1) + refuse for each in refused)
        code += _block(call[at], load + tests + allow)
    allowed = b"".join(_op(_JUMP_EQ, family, 0, 1) + allow for family in families)
    no_socket = _op(_RETURN, _REFUSE | errno.EACCES)
    code += _block(_SOCKET[at], first + allowed + no_socket)
    return code + allow


def _block(number: int, body: bytes) -> bytes:
    """Code for one system call; it must not run off its end."""
    return _op(_JUMP_EQ, number, 0, len(body) // 8) + body


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
