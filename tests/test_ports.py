import os
from types import SimpleNamespace

import pytest

from firmware_host.errors import (
    BoardError,
    PortAmbiguousError,
    PortNotFoundError,
    PortPermissionError,
)
from firmware_host.ports import USB_VENDORS, Port, choose_port, list_ports


def info(device, description="n/a", vid=None, pid=None, serial_number=None):
    """What pyserial returns of one port."""
    return SimpleNamespace(
        device=device, description=description, vid=vid, pid=pid, serial_number=serial_number
    )


UART = info("/dev/none-S0")
PICO = info("/dev/none-ACM0", "Pico", 0x2E8A, 0x000A, "E6614")
MODEM = info("/dev/none-USB1", "4G Modem", 0x12D1, 0x1001)


def lister(*infos):
    return lambda: list(infos)


def test_usb_comes_first_and_known_vendors_before_others():
    far, near = (info(f"/dev/none-ACM{n}", "Board", 0x2341, 0x0043, "5\x1b[2J") for n in (10, 9))
    ports = list_ports(lister(UART, MODEM, far, near))
    assert [port.device for port in ports] == [
        "/dev/none-ACM9",
        "/dev/none-ACM10",
        "/dev/none-USB1",
        "/dev/none-S0",
    ]
    assert [(port.usb, port.vendor) for port in ports] == [
        (True, "Arduino"),
        (True, "Arduino"),
        (True, None),
        (False, None),
    ]
    assert ports[0].serial_number == "5?[2J"  # a USB device names itself: nothing for a terminal
    assert str(ports[2]) == "/dev/none-USB1 (4G Modem, 12d1:1001)"
    assert str(ports[3]) == "/dev/none-S0"


def test_pyserial_is_asked_where_no_lister_is_given():
    assert all(isinstance(port, Port) for port in list_ports())


def test_a_port_that_goes_while_it_is_looked_at_is_none():
    def one_goes():
        yield PICO
        raise TypeError("int() can't convert non-string with explicit base")  # its idVendor

    assert list_ports(one_goes) == []


def test_vendor_ids_fit_sixteen_bits_and_are_sorted():
    assert list(USB_VENDORS) == sorted(USB_VENDORS)
    assert all(0 < vid < 0x10000 for vid in USB_VENDORS)


def test_the_only_usb_port_is_chosen():
    assert choose_port(lister=lister(UART, PICO)) == Port(
        "/dev/none-ACM0", "Pico", 0x2E8A, 0x000A, "E6614"
    )


def test_no_usb_port():
    with pytest.raises(PortNotFoundError) as caught:
        choose_port(lister=lister(UART))
    assert caught.value.problem == "No serial port on USB, expected one; seen: /dev/none-S0"
    assert "cable" in caught.value.hint
    with pytest.raises(PortNotFoundError, match="none was seen"):
        choose_port(lister=lister())


def test_several_usb_ports():
    with pytest.raises(PortAmbiguousError) as caught:
        choose_port(lister=lister(UART, MODEM, PICO))
    assert caught.value.problem == (
        "2 serial ports on USB, expected one; seen: "
        "/dev/none-ACM0 (Pico, Raspberry Pi, 2e8a:000a); /dev/none-USB1 (4G Modem, 12d1:1001)"
    )
    assert caught.value.hint == "name one: /dev/none-ACM0"


@pytest.mark.parametrize("name", ["/dev/none-ACM0", "none-ACM0", "E6614"])
def test_by_name_or_serial_number(name):
    assert choose_port(name, lister=lister(MODEM, PICO)).description == "Pico"


def test_by_a_link(tmp_path):
    device, link = tmp_path / "ttyACM0", tmp_path / "by-id"
    device.touch()
    link.symlink_to(device)
    assert choose_port(str(link), lister=lister(info(str(device), "Pico"))).description == "Pico"


def test_what_the_system_does_not_list_can_be_named_all_the_same(tmp_path):
    (tmp_path / "pty").touch()
    assert choose_port(str(tmp_path / "pty"), lister=lister()).device == str(tmp_path / "pty")
    assert choose_port("socket://localhost:7000", lister=lister()).vid is None


def test_an_unknown_name():
    with pytest.raises(BoardError) as caught:
        choose_port("/dev/none-ACM7", lister=lister(PICO))
    assert str(caught.value) == (
        "There is no serial port '/dev/none-ACM7'; seen: "
        "/dev/none-ACM0 (Pico, Raspberry Pi, 2e8a:000a)\n  try: one of them: /dev/none-ACM0"
    )
    with pytest.raises(PortNotFoundError, match="seen: /dev/none-ACM0"):
        choose_port("/dev", lister=lister(PICO))
    with pytest.raises(PortNotFoundError, match="none was seen") as caught:
        choose_port("/dev/none-ACM7", lister=lister())
    assert "cable" in caught.value.hint


def test_a_port_of_another_group(tmp_path, monkeypatch):
    device = tmp_path / "ttyACM0"
    device.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PortPermissionError, match="may not be opened") as caught:
        choose_port(lister=lister(info(str(device), "Pico", 0x2E8A, 0x000A)))
    assert "usermod -aG dialout" in caught.value.hint
