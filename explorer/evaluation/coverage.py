"""Coverage: every image-evasion attack of five other libraries, and which of ours it corresponds to, or why none does.

Read from torchattacks 3.5.1, Foolbox 3.3.4, ART 1.20.1, adv-lib 0.2.8 and pyautoattack 0.2.0. `python -m explorer bench
coverage` prints it. "Corresponds": the same algorithm, perhaps in fewer norms; what differs stands in our docstring.
"""

from __future__ import annotations

from dataclasses import dataclass

NORMS = "in L1; ours works in L-infinity and L2"
NOISE = "a noise baseline beyond uniform and Gaussian"
PLAIN = "a plain filter or search, no attack in our sense"
FAMILY = "one of a family, of which others are here"
REGION = "its threat model is neither a norm nor one of our transformations"
ELSEWHERE = "not for image classifiers"
TRAINED = "needs weights or data beyond the model and the picture"
CLOSER = "a minimal attack in norms where FMN, DDN, C&W and FAB are"
JSMA = "superseded by sigma-zero: toward the next class JSMA changes a median of 32 pixels of cifar10/lenet, sigma-zero 7 (16 pictures)"
ALMA = "superseded by C&W: a mean L2 of 0.200 on cifar10/lenet (300 steps, 32 pictures), C&W 0.169; 0.949 and 0.948 on fashion-mlp"
LABELS = "a label-only attack of the kind of HopSkipJump and RayS"


@dataclass(frozen=True)
class Row:
    """One attack of a library: the key of ours, or a sentence why there is none."""

    attack: str
    ours: str = ""
    why: str = ""

    def told(self) -> list[str]:
        return [self.attack, self.ours or "-", self.why]


def _same(ours: str, *attacks: str) -> tuple[Row, ...]:
    return tuple(Row(name, ours) for name in attacks)


def _none(why: str, *attacks: str) -> tuple[Row, ...]:
    return tuple(Row(name, why=why) for name in attacks)


COVERAGE: dict[str, tuple[Row, ...]] = {
    "torchattacks": (
        *_same("gaussian-noise", "GN"),
        *_same("fgsm", "FGSM"),
        *_same("rfgsm", "RFGSM", "FFGSM"),
        *_same("pgd", "BIM", "PGD", "PGDL2", "EOTPGD"),
        *_same("mifgsm", "MIFGSM"),
        *_same("ni-fgsm", "NIFGSM"),
        *_same("vmi-fgsm", "VMIFGSM"),
        *_same("difgsm", "DIFGSM"),
        *_same("apgd-ce", "APGD"),
        *_same("apgd-t", "APGDT"),
        *_same("cw", "CW"),
        *_same("deepfool", "DeepFool"),
        *_same("ead", "EADL1", "EADEN"),
        *_same("one-pixel", "OnePixel"),
        *_same("fab", "FAB"),
        *_same("square", "Square"),
        *_same("autoattack", "AutoAttack"),
        *_same("ti-dim", "TIFGSM"),
        *_same("si-ni-fgsm", "SINIFGSM"),
        *_none("NI-FGSM and VMI-FGSM together, which are here one by one", "VNIFGSM"),
        *_none("MI-FGSM whose overshoot is spread over patches; TI-DIM spreads the slope itself", "PIFGSM", "PIFGSMPP"),
        *_none("PGD whose loss, momentum and step are settings; so they are in PGD and MI-FGSM here", "UPGD"),
        *_same("pgd", "TPGD", "Jitter"),
        *_none("PGD with restarts of another distribution", "PGDRS", "PGDRSL2"),
        *_none("a sparse attack, as sigma-zero and FMN are", "SparseFool"),
        *_none(JSMA, "JSMA"),
        *_none("moves pixels about at random; Sparse-RS repaints them, by scores alone as well", "Pixle"),
        *_none("a score-based attack of the kind of NES", "SPSA"),
        *_none("runs others in turn; so do `evaluate` and AutoAttack", "MultiAttack"),
        *_none(TRAINED, "LGV"),
    ),
    "foolbox": (
        *_same("fgsm", "L2FastGradientAttack", "LinfFastGradientAttack"),
        *_same("pgd", "L2ProjectedGradientDescentAttack", "LinfProjectedGradientDescentAttack"),
        *_same("pgd", "L2BasicIterativeAttack", "LinfBasicIterativeAttack"),
        *_same("mifgsm", "L2MomentumIterativeFastGradientMethod", "LinfMomentumIterativeFastGradientMethod"),
        *_same("apgd-l1", "SparseL1DescentAttack"),
        *_same("ddn", "DDNAttack"),
        *_same("cw", "L2CarliniWagnerAttack"),
        *_same("ead", "EADAttack"),
        *_same("deepfool", "L2DeepFoolAttack", "LinfDeepFoolAttack"),
        *_same("fmn", "L0FMNAttack", "L1FMNAttack", "L2FMNAttack", "LInfFMNAttack"),
        *_same("boundary", "BoundaryAttack"),
        *_same("hopskipjump", "HopSkipJumpAttack"),
        *_same("uniform-noise", "LinfAdditiveUniformNoiseAttack", "LinfRepeatedAdditiveUniformNoiseAttack"),
        *_same("uniform-noise", "L2AdditiveUniformNoiseAttack", "L2RepeatedAdditiveUniformNoiseAttack"),
        *_same("gaussian-noise", "L2AdditiveGaussianNoiseAttack", "L2RepeatedAdditiveGaussianNoiseAttack"),
        *_none(NOISE, "L2ClippingAwareAdditiveGaussianNoiseAttack", "L2ClippingAwareAdditiveUniformNoiseAttack"),
        *_none(NOISE, "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack"),
        *_none(NOISE, "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack"),
        *_none(NOISE, "SaltAndPepperNoiseAttack", "LinearSearchBlendedUniformNoiseAttack"),
        *_none(NORMS, "L1FastGradientAttack", "L1ProjectedGradientDescentAttack", "L1BasicIterativeAttack"),
        *_none(NORMS, "L1MomentumIterativeFastGradientMethod"),
        *_none(
            "PGD along Adam's steps", "L1AdamProjectedGradientDescentAttack", "L2AdamProjectedGradientDescentAttack"
        ),
        *_none("PGD along Adam's steps", "LinfAdamProjectedGradientDescentAttack", "L1AdamBasicIterativeAttack"),
        *_none("PGD along Adam's steps", "L2AdamBasicIterativeAttack", "LinfAdamBasicIterativeAttack"),
        *_same("brendel-bethge", "L1BrendelBethgeAttack", "L2BrendelBethgeAttack", "LinfinityBrendelBethgeAttack"),
        *_none("Brendel-Bethge in L0, where sigma-zero and FMN are", "L0BrendelBethgeAttack"),
        *_none(PLAIN, "L2ContrastReductionAttack", "BinarySearchContrastReductionAttack", "InversionAttack"),
        *_none(PLAIN, "LinearSearchContrastReductionAttack", "GaussianBlurAttack", "BinarizationRefinementAttack"),
        *_same("rotation", "SpatialAttack"),
        *_none("a step of semi-supervised training", "VirtualAdversarialAttack"),
        *_none("an early minimal attack, by the softmax's slope", "NewtonFoolAttack"),
        *_none(TRAINED, "DatasetAttack"),
        *_none("a score-based attack of the kind of One pixel", "GenAttack"),
        *_none("reduces another attack's change pixel by pixel", "PointwiseAttack"),
    ),
    "art": (
        *_same("fgsm", "FastGradientMethod"),
        *_same("pgd", "ProjectedGradientDescent", "BasicIterativeMethod"),
        *_same("mifgsm", "MomentumIterativeMethod"),
        *_same("apgd-ce", "AutoProjectedGradientDescent"),
        *_same("autoattack", "AutoAttack"),
        *_same("boundary", "BoundaryAttack"),
        *_same("hopskipjump", "HopSkipJump"),
        *_same("cw", "CarliniL2Method"),
        *_same("deepfool", "DeepFool"),
        *_same("ead", "ElasticNet"),
        *_same("one-pixel", "PixelAttack"),
        *_same("square", "SquareAttack"),
        *_same("simba", "SimBA"),
        *_same("universal", "UniversalPerturbation"),
        *_none("APGD along conjugate gradients", "AutoConjugateGradient", "RescalingAutoConjugateGradient"),
        *_same("brendel-bethge", "BrendelBethgeAttack"),
        *_none(FAMILY, "CarliniLInfMethod", "CarliniL0Method", "TargetedUniversalPerturbation", "ThresholdAttack"),
        *_none(LABELS, "GeoDA", "SignOPTAttack"),
        *_none("a score-based attack of the kind of NES", "ZooAttack"),
        *_none(JSMA, "SaliencyMapMethod"),
        *_none("an early minimal attack, by the softmax's slope", "NewtonFool"),
        *_none("a step of semi-supervised training", "VirtualAdversarialMethod"),
        *_same("patch", "AdversarialPatch"),
        *_none(REGION, "AdversarialTexturePyTorch", "Wasserstein"),
        *_none(
            REGION, "CompositeAdversarialAttackPyTorch", "GRAPHITEBlackbox", "GRAPHITEWhiteboxPyTorch", "LaserAttack"
        ),
        *_same("shadow", "ShadowAttack"),
        *_same("feature-adversary", "FeatureAdversariesPyTorch"),
        *_same("rotation", "SpatialTransformation"),
        *_none("for Gaussian processes", "HighConfidenceLowUncertainty"),
        *_none(
            ELSEWHERE, "CarliniWagnerASR", "ImperceptibleASR", "DecisionTreeAttack", "DPatch", "RobustDPatch", "SNAL"
        ),
        *_none(ELSEWHERE, "FrameSaliencyAttack", "LowProFool", "OverloadPyTorch", "MalwareGDTensorFlow"),
        *_none(ELSEWHERE, "OverTheAirFlickeringPyTorch"),
    ),
    "adv-lib": (
        *_same("apgd-ce", "apgd"),
        *_same("apgd-t", "apgd_targeted"),
        *_same("cw", "carlini_wagner_l2"),
        *_same("ddn", "ddn"),
        *_same("deepfool", "df"),
        *_same("fab", "fab"),
        *_same("fmn", "fmn"),
        *_same("pgd", "pgd_linf"),
        *_same("sigma-zero", "sigma_zero"),
        *_same("superdeepfool", "sdf"),
        *_none(ALMA, "alma"),
        *_none(CLOSER, "pdgd", "pdpgd", "tr", "carlini_wagner_linf"),
        *_none("a sparse attack, as sigma-zero and FMN are", "fga", "vfga", "str_attack"),
        *_none(REGION, "perc_al"),
    ),
    "pyautoattack": (
        *_same("apgd-ce", "APGD-CE"),
        *_same("apgd-t", "APGD-T"),
        *_same("apgd-l1", "APGD in L1"),
        *_same("fab", "FAB-T", "FAB-T in L1"),
        *_same("square", "Square", "Square in L1"),
        *_same("autoattack", "AutoAttack"),
    ),
}
