from __future__ import annotations

import pytest

from indiseek_sc._recognise import are_peaks, check_known, find_not_proteins, role_of

CONTROLS = """
IgG1 IgG2a IgG2b IgG1Kiso ratIgG2bKiso IgG1.K.Isotype.Control IgG1_control_TotalSeqC IgG2a_TotalSeqB Mouse-IgG1 Rat_IgG2a,k
Isotype_MOPC.21 Ctrl_IgG1 MouseIgG1kappaisotype Armenian_Hamster_IgG IgG_control
""".split()
HASHTAGS = "HTO28_5P HTO_1 Hashtag1 CMO301 hto-A anti-human_Hashtag_3 SampleTag01_hs".split()
PROTEINS = """
CD3 IgM IgA IgD IgE TIGIT IgGFc IgKappaLight IgLambdaLight IgG Siglec-8 FceRIa CD64 HLA-A,B,C CD16/CD32 anti-human_IgM TCR.Va7.2
anti-human_IgG_Fc Ig_light_chain_kappa CTLA4 CD3-control-free
""".split()


@pytest.mark.parametrize(
    ("kind", "names"), [("isotype controls", CONTROLS), ("hashtags", HASHTAGS), ("unmapped", ["unmapped", "no_match"])]
)
def test_features_that_are_not_proteins_are_recognised(kind: str, names: list[str]):
    assert find_not_proteins([*PROTEINS, *names]) == {kind: names}


def test_roles_are_recognised_by_name():
    for name in ("rna", "RNA", "gex", "Gene Expression"):
        assert role_of(name) == "rna"
    for name in ("adt", "prot", "Protein", "AB", "Antibody Capture"):
        assert role_of(name) == "adt"
    for name in ("atac", "Peaks", "", "hto", "CRISPR Guide Capture"):
        assert role_of(name) is None


def test_genomic_regions_are_recognised():
    assert are_peaks(["chr1-1000-1500", "chrX:20000-20500", "GL000205.2-67850-68750"])
    assert not are_peaks(["CD3", "HLA-DR", "TCR-1-2", "MT-CO1", "chr1-1000-1500"])
    assert not are_peaks([])


def test_error_suggests_similar_names():
    check_known("exclude", ["IgG1"], ["CD3", "IgG1"])
    with pytest.raises(ValueError, match=r"exclude: there is no 'igg1'\. Did you mean 'IgG1'"):
        check_known("exclude", ["igg1"], ["CD3", "IgG1"])
    with pytest.raises(ValueError, match=r"there is no 'x'\. Available: 'CD3'\."):
        check_known("exclude", ["x"], ["CD3"])
