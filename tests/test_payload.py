"""Masks as bytes: nothing is lost, and no damage goes unseen."""

from __future__ import annotations

import hashlib
import struct
import zlib

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from napari_activeft.annotation_db import CorruptMaskError, MaskError, pack, unpack

HEAD = struct.Struct("<4sBHHI")
DTYPES = [np.dtype(kind) for kind in ("|u1", "<u2", ">u2")]
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
masks = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, shapes, elements=st.integers(0, np.iinfo(dtype).max))
)


def small_mask():
    mask = np.zeros((24, 20), np.uint8)
    mask[4:18, 3:12] = 1
    mask[8:15, 6:10] = 2
    mask[0, 0] = 7
    return mask


def payload_of(frame, *, code=1, height=24, width=20, magic=b"AFM1"):
    """Build a payload by hand whose own CRC is right whatever the rest says."""
    crc = zlib.crc32(struct.pack("<BHH", code, height, width) + frame)
    return HEAD.pack(magic, code, height, width, crc) + frame


def frame_of(payload):
    return payload[HEAD.size :]


@settings(deadline=None)
@given(mask=masks)
@example(mask=np.array([[65535]], ">u2"))
@example(mask=np.full((1, 40), 255, np.uint8))
@example(mask=np.full((40, 1), 65534, np.uint16))
def test_every_mask_comes_back_as_it_was(mask):
    packed = pack(mask)
    back = unpack(packed.payload, packed.checksum, "revision 1")

    assert np.array_equal(back, mask)
    assert back.dtype == mask.dtype.newbyteorder("=")
    assert back.dtype.isnative
    assert (packed.height, packed.width) == mask.shape
    assert packed.dtype == back.dtype.name


@settings(deadline=None)
@given(mask=masks, data=st.data())
def test_a_view_packs_to_the_same_bytes_as_its_copy(mask, data):
    axis = st.sampled_from((slice(None), slice(None, None, -1), slice(None, None, 2)))
    view = mask[data.draw(axis), data.draw(axis)]
    if data.draw(st.booleans()):
        view = view.T

    assert pack(view) == pack(view.copy(order="C"))


@settings(deadline=None)
@given(mask=masks)
def test_byte_order_of_the_given_array_leaves_no_trace(mask):
    assert pack(mask) == pack(mask.astype(mask.dtype.newbyteorder("=")))


def test_the_checksum_is_that_of_the_class_ids_and_not_of_how_they_are_stored():
    mask = small_mask()
    plain = hashlib.sha256(struct.pack("<BHH", 1, 24, 20) + mask.tobytes()).hexdigest()

    assert pack(mask).checksum == plain
    assert pack(mask.astype(np.uint16)).checksum != plain
    assert pack(mask.reshape(20, 24)).checksum != plain


def test_an_unpacked_mask_can_be_drawn_on():
    packed = pack(small_mask())
    back = unpack(packed.payload, packed.checksum, "revision 1")

    back[0, 0] = 3

    assert back[0, 0] == 3


def test_packing_leaves_the_array_as_it_is():
    mask = small_mask()
    mask.setflags(write=False)

    pack(mask)

    assert np.array_equal(mask, small_mask())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_mask_comes_back(dtype):
    mask = np.kron(np.random.default_rng(0).integers(0, 250, (64, 64)), np.ones((64, 64))).astype(
        dtype
    )
    packed = pack(mask)

    assert np.array_equal(unpack(packed.payload, packed.checksum, "revision 1"), mask)
    assert len(packed.payload) < mask.nbytes / 50


def test_noise_costs_hardly_more_than_its_own_size():
    mask = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)

    assert len(pack(mask).payload) < mask.nbytes * 1.001 + 200


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_flipped_bit_of_a_payload_is_detected(dtype):
    packed = pack(small_mask().astype(dtype))
    unseen, named = [], 0
    for bit in range(8 * len(packed.payload)):
        damaged = bytearray(packed.payload)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            unpack(bytes(damaged), packed.checksum, "revision 7")
            unseen.append(bit)
        except CorruptMaskError as error:
            named += "revision 7" in str(error)

    assert unseen == []
    assert named == 8 * len(packed.payload)


def test_every_flipped_bit_of_a_checksum_is_detected():
    packed = pack(small_mask())
    stored = packed.checksum.encode("ascii")
    for bit in range(8 * len(stored)):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptMaskError, match="revision 7"):
            unpack(packed.payload, damaged.decode("latin-1"), "revision 7")


def test_every_truncation_and_every_appended_byte_is_detected():
    packed = pack(small_mask())
    longer = [packed.payload + extra for extra in (b"\0", b"\xff", packed.payload)]
    for damaged in [packed.payload[:end] for end in range(len(packed.payload))] + longer:
        with pytest.raises(CorruptMaskError, match="revision 7"):
            unpack(damaged, packed.checksum, "revision 7")


@settings(deadline=None)
@given(damaged=st.binary(max_size=200))
def test_no_other_bytes_are_taken_for_a_mask(damaged):
    with pytest.raises(CorruptMaskError):
        unpack(damaged, pack(small_mask()).checksum, "revision 7")


def test_a_payload_of_another_mask_is_detected():
    other = pack(small_mask()[::-1])

    with pytest.raises(CorruptMaskError, match="checksum does not match"):
        unpack(other.payload, pack(small_mask()).checksum, "revision 7")


def test_a_frame_that_claims_terabytes_is_refused_before_it_is_believed():
    # Magic number, descriptor of an eight-byte size, window, the size: 2 to the power of 44.
    frame = bytes.fromhex("28b52ffd") + bytes([0b11000000, 0x50]) + struct.pack("<Q", 1 << 44)

    assert zstandard.get_frame_parameters(frame).content_size == 1 << 44
    with pytest.raises(CorruptMaskError, match="its size is not that of its shape"):
        unpack(payload_of(frame), "0" * 64, "revision 7")


@pytest.mark.parametrize(
    "lie",
    [
        {"height": 25},
        {"width": 19},
        {"height": 20, "width": 20},
        {"height": 65535, "width": 65535},
        {"height": 0, "width": 0},
        {"height": 0},
        {"code": 2},
        {"code": 0},
        {"code": 255},
        {"magic": b"AFM2"},
    ],
    ids=str,
)
def test_a_head_that_lies_about_its_frame_is_refused(lie):
    packed = pack(small_mask())
    assert payload_of(frame_of(packed.payload)) == packed.payload

    with pytest.raises(CorruptMaskError, match="revision 7"):
        unpack(payload_of(frame_of(packed.payload), **lie), packed.checksum, "revision 7")


def test_a_transposed_shape_is_told_from_the_real_one():
    packed = pack(small_mask())
    turned = payload_of(frame_of(packed.payload), height=20, width=24)

    with pytest.raises(CorruptMaskError, match="checksum does not match"):
        unpack(turned, packed.checksum, "revision 7")


def test_an_empty_shape_with_an_empty_frame_is_refused():
    frame = zstandard.ZstdCompressor().compress(b"")

    with pytest.raises(CorruptMaskError):
        unpack(payload_of(frame, height=0, width=0), "0" * 64, "revision 7")


@pytest.mark.parametrize(
    ("mask", "needed"),
    [
        (np.zeros((4, 4), np.int64), "uint8 or uint16"),
        (np.zeros((4, 4), bool), "uint8 or uint16"),
        (np.zeros((4, 4), np.int8), "uint8 or uint16"),
        (np.zeros((4, 4), np.float32), "uint8 or uint16"),
        (np.zeros((4, 4), np.uint32), "uint8 or uint16"),
        (np.zeros((2, 4, 4), np.uint8), "2-D"),
        (np.zeros(4, np.uint8), "2-D"),
        (np.zeros((0, 4), np.uint8), "1 to 4096"),
        (np.zeros((4, 0), np.uint8), "1 to 4096"),
        (np.zeros((4097, 1), np.uint8), "1 to 4096"),
        (np.zeros((1, 4097), np.uint16), "1 to 4096"),
    ],
    ids=lambda given: str(getattr(given, "shape", "")),
)
def test_what_is_no_mask_is_refused_with_what_came_and_what_is_needed(mask, needed):
    with pytest.raises(MaskError, match=needed) as refusal:
        pack(mask)

    assert str(mask.shape[0]) in str(refusal.value)
