"""The catalogue: networks of keras.applications that are encoders by name, one row of data each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CatalogRow:
    """One encoder of the catalogue.

    Attributes
    ----------
    name : str
    builder : str
        Function of keras.applications.
    preprocessing : str
        Mode of `register_encoder`.
    image_size : int
        Height and width in pixels for which it was made.
    taps, last, skips
        Layers of ``layers="multi"``, "last" and "skips"; see `register_encoder`.
    keras_file : str
        Name of the ImageNet weights without top in Keras's cache.
    parameters : int
        Values in the network without top.
    gmacs : float
        Billions of multiplications and additions of one image of `image_size`, without top.
    licence : str
        Of the ImageNet weights, as their authors or keras.applications give it.
    paper : str
        Source of the architecture.
    options : mapping
        Arguments of the builder beside the input shape.
    """

    name: str
    builder: str
    preprocessing: str
    image_size: int
    taps: tuple[str, ...]
    last: str | None
    skips: tuple[str, ...]
    keras_file: str
    parameters: int
    gmacs: float
    licence: str
    paper: str
    options: Mapping[str, Any] = field(default_factory=dict)


_V1_SKIPS = ("conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu")
_V2_TAPS = ("block_6_project_BN", "block_13_project_BN", "block_13_expand_relu", "out_relu")
_V2_SKIPS = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu")


def _mobilenet(alpha: float, parameters: int, gmacs: float) -> CatalogRow:
    text = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}[alpha]
    return CatalogRow(
        "mobilenet" if alpha == 1 else f"mobilenet_{alpha}",
        "MobileNet",
        "tf",
        224,
        _V1_SKIPS[1:],
        _V1_SKIPS[-1],
        _V1_SKIPS,
        f"mobilenet_{text}_224_tf_no_top.h5",
        parameters,
        gmacs,
        "Apache-2.0",
        "Howard et al. 2017, arXiv:1704.04861",
        {"alpha": alpha},
    )


def _mobilenet_v2(alpha: float, parameters: int, gmacs: float) -> CatalogRow:
    return CatalogRow(
        "mobilenet_v2" if alpha == 1 else f"mobilenet_v2_{alpha}",
        "MobileNetV2",
        "tf",
        224,
        _V2_TAPS,
        _V2_TAPS[-1],
        _V2_SKIPS,
        f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
        parameters,
        gmacs,
        "Apache-2.0",
        "Sandler et al. 2018, arXiv:1801.04381",
        {"alpha": alpha},
    )


def _mobilenet_v3(
    size: str, blocks: tuple[int, int, int], parameters: int, gmacs: float
) -> CatalogRow:
    """`blocks` end the scales of a quarter, an eighth and a sixteenth."""
    ends = [f"expanded_conv_{k}_add" if k else "expanded_conv_project_bn" for k in blocks]
    return CatalogRow(
        f"mobilenet_v3_{size}",
        f"MobileNetV3{size.capitalize()}",
        "none",
        224,
        (*ends[1:], "output"),
        None,
        (*ends, "output"),
        f"weights_mobilenet_v3_{size}_224_1.0_float_no_top_v2.h5",
        parameters,
        gmacs,
        "Apache-2.0",
        "Howard et al. 2019, arXiv:1905.02244",
    )


def _vgg(depth: int, last: int, parameters: int, gmacs: float) -> CatalogRow:
    return CatalogRow(
        f"vgg{depth}",
        f"VGG{depth}",
        "caffe",
        224,
        tuple(f"block{block}_conv{last}" for block in (3, 4, 5)),
        "block5_pool",
        (),
        f"vgg{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        parameters,
        gmacs,
        "CC-BY-4.0",
        "Simonyan and Zisserman 2014, arXiv:1409.1556",
    )


def _resnet(depth: int, third: int, fourth: int, parameters: int, gmacs: float) -> CatalogRow:
    """`third` and `fourth` are the numbers of blocks of the stages conv3 and conv4."""
    taps = ("conv2_block3_out", f"conv3_block{third}_out", f"conv4_block{fourth}_out")
    return CatalogRow(
        f"resnet{depth}",
        f"ResNet{depth}",
        "caffe",
        224,
        taps,
        "conv5_block3_out",
        (),
        f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        parameters,
        gmacs,
        "MIT",
        "He et al. 2015, arXiv:1512.03385",
    )


def _resnet_v2(depth: int, third: int, fourth: int, parameters: int, gmacs: float) -> CatalogRow:
    """As `_resnet`; a stage is halved in size by its last block, so that is tapped before."""
    skips = (
        "conv2_block3_preact_relu",
        f"conv3_block{third}_preact_relu",
        f"conv4_block{fourth}_preact_relu",
        "post_relu",
    )
    return CatalogRow(
        f"resnet{depth}_v2",
        f"ResNet{depth}V2",
        "tf",
        224,
        skips[1:],
        "post_relu",
        skips,
        f"resnet{depth}v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        parameters,
        gmacs,
        "BSD-3-Clause",
        "He et al. 2016, arXiv:1603.05027",
    )


def _densenet(depth: int, fourth: int, parameters: int, gmacs: float) -> CatalogRow:
    """`fourth` is the number of layers of the stage conv4."""
    skips = ("conv2_block6_concat", "conv3_block12_concat", f"conv4_block{fourth}_concat", "relu")
    return CatalogRow(
        f"densenet{depth}",
        f"DenseNet{depth}",
        "torch",
        224,
        skips[1:],
        "relu",
        skips,
        f"densenet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        parameters,
        gmacs,
        "BSD-3-Clause",
        "Huang et al. 2016, arXiv:1608.06993",
    )


_EFFICIENTNET_SKIPS = (
    "block3a_expand_activation",
    "block4a_expand_activation",
    "block6a_expand_activation",
    "top_activation",
)


def _efficientnet(number: int, image_size: int, parameters: int, gmacs: float) -> CatalogRow:
    return CatalogRow(
        f"efficientnet_b{number}",
        f"EfficientNetB{number}",
        "efficientnet",
        image_size,
        _EFFICIENTNET_SKIPS[1:],
        _EFFICIENTNET_SKIPS[-1],
        _EFFICIENTNET_SKIPS,
        f"efficientnetb{number}_notop.h5",
        parameters,
        gmacs,
        "Apache-2.0",
        "Tan and Le 2019, arXiv:1905.11946",
    )


def _efficientnet_v2(
    size: str, second: str, image_size: int, parameters: int, gmacs: float
) -> CatalogRow:
    """`second` is the last block of the second stage, at a quarter of the image's size."""
    skips = (
        f"block2{second}_add",
        "block4a_expand_activation",
        "block6a_expand_activation",
        "top_activation",
    )
    return CatalogRow(
        f"efficientnet_v2_{size}",
        f"EfficientNetV2{size.upper()}",
        "none",
        image_size,
        skips[1:],
        skips[-1],
        skips,
        f"efficientnetv2-{size}_notop.h5",
        parameters,
        gmacs,
        "Apache-2.0",
        "Tan and Le 2021, arXiv:2104.00298",
    )


def _convnext(size: str, third: int, parameters: int, gmacs: float) -> CatalogRow:
    """`third` is the number of blocks of the third stage."""
    ends = ((0, 2), (1, 2), (2, third - 1))
    skips = (*(f"convnext_{size}_stage_{s}_block_{b}_gelu" for s, b in ends), "output")
    return CatalogRow(
        f"convnext_{size}",
        f"ConvNeXt{size.capitalize()}",
        "none",
        224,
        skips[1:],
        None,
        skips,
        f"convnext_{size}_notop.h5",
        parameters,
        gmacs,
        "MIT",
        "Liu et al. 2022, arXiv:2201.03545",
    )


CATALOG: tuple[CatalogRow, ...] = (
    _mobilenet(0.25, 218_544, 0.041),
    _mobilenet(0.5, 829_536, 0.149),
    _mobilenet(0.75, 1_832_976, 0.325),
    _mobilenet(1.0, 3_228_864, 0.568),
    _mobilenet_v2(0.35, 410_208, 0.058),
    _mobilenet_v2(0.5, 706_224, 0.096),
    _mobilenet_v2(0.75, 1_382_064, 0.208),
    _mobilenet_v2(1.0, 2_257_984, 0.299),
    _mobilenet_v2(1.3, 3_766_048, 0.508),
    _mobilenet_v2(1.4, 4_363_712, 0.58),
    _mobilenet_v3("small", (0, 2, 7), 939_120, 0.055),
    _mobilenet_v3("large", (2, 5, 11), 2_996_352, 0.214),
    _vgg(16, 3, 14_714_688, 15.347),
    _vgg(19, 4, 20_024_384, 19.508),
    _resnet(50, 4, 6, 23_587_712, 3.856),
    _resnet(101, 4, 23, 42_658_176, 7.568),
    _resnet(152, 8, 36, 58_370_944, 11.28),
    _resnet_v2(50, 4, 6, 23_564_800, 3.48),
    _resnet_v2(101, 4, 23, 42_626_560, 7.192),
    _resnet_v2(152, 8, 36, 58_331_648, 10.905),
    _densenet(121, 24, 7_037_504, 2.833),
    _densenet(169, 32, 12_642_880, 3.358),
    _densenet(201, 48, 18_321_984, 4.289),
    _efficientnet(0, 224, 4_049_571, 0.385),
    _efficientnet(1, 240, 6_575_239, 0.686),
    _efficientnet(2, 260, 7_768_569, 0.992),
    _efficientnet(3, 300, 10_783_535, 1.826),
    _efficientnet(4, 380, 17_673_823, 4.392),
    _efficientnet(5, 456, 28_513_527, 10.264),
    _efficientnet(6, 528, 40_960_143, 19.065),
    _efficientnet(7, 600, 64_097_687, 37.743),
    _efficientnet_v2("b0", "b", 224, 5_919_312, 0.717),
    _efficientnet_v2("b1", "b", 240, 6_931_124, 1.196),
    _efficientnet_v2("b2", "c", 260, 8_769_374, 1.696),
    _efficientnet_v2("b3", "c", 300, 12_930_622, 3.01),
    _efficientnet_v2("s", "d", 384, 20_331_360, 8.364),
    _convnext("tiny", 9, 27_820_128, 4.455),
    _convnext("small", 27, 49_454_688, 8.683),
    CatalogRow(
        "xception",
        "Xception",
        "tf",
        299,
        ("block4_sepconv1_act", "block13_sepconv2_act", "block14_sepconv2_act"),
        "block14_sepconv2_act",
        (
            "block3_sepconv1_act",
            "block4_sepconv1_act",
            "block13_sepconv2_act",
            "block14_sepconv2_act",
        ),
        "xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        20_861_480,
        8.355,
        "MIT",
        "Chollet 2016, arXiv:1610.02357",
    ),
    CatalogRow(
        "inception_v3",
        "InceptionV3",
        "tf",
        299,
        ("mixed2", "mixed7", "mixed10"),
        "mixed10",
        (),
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        21_802_784,
        5.711,
        "Apache-2.0",
        "Szegedy et al. 2015, arXiv:1512.00567",
    ),
    CatalogRow(
        "inception_resnet_v2",
        "InceptionResNetV2",
        "tf",
        299,
        ("block35_10_ac", "block17_20_ac", "conv_7b_ac"),
        "conv_7b_ac",
        (),
        "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        54_336_736,
        13.154,
        "Apache-2.0",
        "Szegedy et al. 2016, arXiv:1602.07261",
    ),
    CatalogRow(
        "nasnet_mobile",
        "NASNetMobile",
        "tf",
        224,
        ("normal_concat_3", "normal_concat_8", "output"),
        None,
        ("reduction_concat_stem_1", "normal_concat_3", "normal_concat_8", "output"),
        "nasnet_mobile_no_top.h5",
        4_269_716,
        0.563,
        "Apache-2.0",
        "Zoph et al. 2017, arXiv:1707.07012",
    ),
)
