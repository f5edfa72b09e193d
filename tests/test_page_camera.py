"""The live picture is the camera's own JPEG, byte for byte, where it gives one."""

import io
from itertools import islice

import numpy as np
import pytest
from command_line import write_images
from encoded import encoded
from http_camera import MULTIPART, QUICK, page, serving
from page_session import CountingSession, until
from page_viewer import Viewer
from PIL import Image
from test_page_api import ask
from test_v4l2 import FakeDevice, packet

from cfl_edge.config.learn import LearnSettings
from cfl_edge.frame.frame import Frame
from cfl_edge.loop.learn_stream import open_learn_stream
from cfl_edge.serve import pictures
from cfl_edge.serve.pictures import live_jpeg
from cfl_edge.stream.camera import v4l2
from cfl_edge.stream.decode import ImageError, decode_picture, with_tables
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions

SCAN, TABLES = b"\xff\xda", b"\xff\xc4"


def picture(size=(640, 360), seed=0, kind="JPEG", mode="RGB", **options):
    """Draw smooth colours, so that nothing is lost at another resolution."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
    return encoded(image, kind, **options)


def without_tables(jpeg):
    """Leave the Huffman tables out, as cameras do in motion JPEG."""
    parts, at = [jpeg[:2]], 2
    while jpeg[at : at + 2] != SCAN:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        parts.append(b"" if jpeg[at : at + 2] == TABLES else jpeg[at:end])
        at = end
    return b"".join([*parts, jpeg[at:]])


def multipart(sent):
    with serving() as site:
        site.parts(b"--b\r\n\r\n" + sent + b"\r\n", kind=MULTIPART)
        with open_stream(site.url("/stream"), QUICK) as stream:
            yield from islice(stream, 3)


def snapshots(sent):
    with serving() as site:
        site.pages["/snapshot"] = page("image/jpeg", sent)
        with open_stream(site.url("/snapshot"), QUICK) as stream:
            yield from islice(stream, 2)


def pushed(sent):
    inbox = Inbox()
    inbox.put(sent)
    with open_stream("push://", StreamOptions(inbox=inbox)) as stream:
        yield next(iter(stream))


def device(sent):
    camera = type("Camera", (FakeDevice,), {"script": [packet(sent + bytes(64), 1)]})
    camera.read = lambda self, wait_s: self.script[0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(v4l2, "V4l2Device", camera)
        with open_stream("/dev/null", QUICK) as stream:
            yield from islice(stream, 2)


@pytest.mark.parametrize("camera", [multipart, snapshots, pushed, device])
def test_a_frame_has_the_bytes_that_its_camera_sent(camera):
    sent = picture()
    frames = list(camera(sent))
    assert [frame.jpeg for frame in frames] == [sent] * len(frames)
    assert live_jpeg(frames[0]) is frames[0].jpeg


def test_viewers_snapshots_and_streams_get_these_bytes(tmp_path):
    sent = {number: picture(seed=number) for number in range(7)}
    with CountingSession(tmp_path, fps=20) as session:
        session.sent = lambda number: sent[number % 7]
        with Viewer(session) as viewer:  # it gets small ones until they arrive fast
            until(lambda: viewer.take() and viewer.pictures[-1] in sent.values())
            for _ in range(5):
                number = viewer.take()["frame"]["frame"]
                assert viewer.pictures[-1] == sent[number % 7]
            viewer.say(view="model")
            until(lambda: viewer.take() and viewer.pictures[-1] not in sent.values())
        _, body, headers = ask(session, "/api/v1/frame.jpg")
        assert body == sent[int(headers["X-Frame"]) % 7]


def test_a_picture_is_made_where_the_cameras_own_is_too_large(monkeypatch):
    made = Image.open(io.BytesIO(live_jpeg(next(pushed(picture((1288, 720)))))))
    assert made.size == (640, 358)
    sent = picture((1280, 720), quality=95)
    monkeypatch.setattr(pictures, "SENT_BYTES", len(sent))
    assert live_jpeg(next(pushed(sent))) == sent
    monkeypatch.setattr(pictures, "SENT_BYTES", len(sent) - 1)
    smaller = live_jpeg(next(pushed(sent)))
    assert len(smaller) < len(sent)
    assert Image.open(io.BytesIO(smaller)).size == (640, 360)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(exif=exif)


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (turned(), (360, 640)),
        (picture(kind="PNG"), (640, 360)),
        (picture(progressive=True), (640, 360)),
        (picture(mode="CMYK"), (640, 360)),
    ],
    ids=["turned by its EXIF", "PNG", "progressive", "CMYK"],
)
def test_what_browsers_may_show_otherwise_is_made_anew(sent, size):
    (frame,) = pushed(sent)
    assert frame.jpeg is None
    made = Image.open(io.BytesIO(live_jpeg(frame)))
    assert (made.format, made.size) == ("JPEG", size)
    assert np.abs(np.asarray(made).astype(int) - frame.image).mean() < 4


def test_huffman_tables_that_a_camera_leaves_out_are_put_in():
    sent = picture(quality=75)
    bare = without_tables(sent)
    assert TABLES not in bare[: bare.rindex(SCAN)]
    (frame,) = pushed(bare)
    assert frame.jpeg[: len(bare) // 2] != bare[: len(bare) // 2]
    shown = [np.asarray(Image.open(io.BytesIO(data))) for data in (sent, frame.jpeg)]
    np.testing.assert_array_equal(*shown)
    assert with_tables(frame.jpeg) is frame.jpeg
    np.testing.assert_array_equal(frame.image, decode_picture(sent, lambda _: 1).image)


@pytest.mark.parametrize("cut", [lambda data: data[:-400], lambda data: data[:-400] + b"\xff\xd9"])
def test_a_damaged_frame_never_reaches_a_viewer(cut):
    whole, torn = picture(quality=95), cut(picture(seed=1, quality=95))
    with pytest.raises(ImageError):
        decode_picture(torn, lambda _: 1)
    inbox = Inbox()
    with open_stream("push://", StreamOptions(inbox=inbox)) as stream:
        frames = iter(stream)
        inbox.put(torn)
        stream.on_wait = lambda: stream.damaged and inbox.put(whole)
        frame = next(frames)
    assert (frame.damaged, frame.jpeg == whole) == (1, True)


@pytest.mark.parametrize(
    ("size", "shape"), [((1280, 720), (360, 640)), ((3840, 2160), (540, 960)), ((640, 480),) * 2]
)
def test_for_a_page_a_frame_is_decoded_no_larger_than_its_picture(size, shape):
    """The model reads 96 pixels; the page may have to make a picture of 640."""
    inbox = Inbox()
    inbox.put(picture(size))
    settings = LearnSettings(stream="push://", ui=True)
    with open_learn_stream(settings, lambda _: 8, [].append, inbox) as stream:
        frame = next(iter(stream))
    assert sorted(frame.image.shape[:2]) == sorted(shape)
    assert frame.full_px == (size if max(shape) < max(size) else None)


@pytest.mark.parametrize("stream", ["demo:", "{}"])
def test_what_is_played_again_and_again_has_no_number_of_frames(tmp_path, stream):
    """Somebody teaches until she ends it: a million passes would be told as frames to come."""
    stream = stream.format(write_images(tmp_path / "data", count=2))
    settings = LearnSettings(stream=stream, ui=True, realtime=1000)
    with open_learn_stream(settings, lambda _: 1, [].append) as played:
        assert played.total is None
        assert ", again and again, in real time at 1000 frames" in played.description()
        assert "1000000" not in played.description()
        seen = [frame.index for frame in islice(played, 9)]
    assert seen == sorted(set(seen))
    assert seen[-1] >= 8  # of 4 images


def test_a_demonstration_of_a_number_of_frames_ends(tmp_path):
    settings = LearnSettings(stream="demo:?frames=4", ui=True)
    with open_learn_stream(settings, lambda _: 1, [].append) as played:
        assert played.total == 4


def test_a_frame_that_is_printed_has_no_bytes_in_it():
    assert "jpeg" not in repr(Frame(np.zeros((2, 3, 3), np.uint8), 0.0, 0, jpeg=picture()))
