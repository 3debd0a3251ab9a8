from ghosttrack.detector.asking.families.ghosts import ghost_specs
from ghosttrack.detector.catalogue import SPECS, markdown

SECTION_3 = """
commit_depth commit_jump late_margin rank_area lens_flips settle_kl
cand_entropy_mid cand_entropy_final rival_ratio rival_persistence n_rivals
winner_share support_gini support_depth prior_share bias_share
birth_rate death_rate len_excess half_life late_birth_mass orphan_winner merge_rate split_rate
link_llr nis nis_peak_depth miss_rate
mag_cv winner_trend set_jaccard
fvu fvu_max l0_z rarity
subject_known subject_energy subject_dominance
"""
"""The statistics that were asked for, by family A to H."""


def test_every_statistic_that_was_asked_for_stands_under_its_name():
    assert set(SECTION_3.split()) <= {spec.name for spec in SPECS}


def test_no_name_stands_for_two_statistics():
    names = [spec.name for spec in (*SPECS, *ghost_specs((0, 1)))]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_statistic_says_what_it_is_where_it_may_lie_and_what_was_expected():
    for spec in (*SPECS, *ghost_specs((0, 1))):
        assert spec.definition, spec.name
        assert spec.family, spec.name
        assert spec.low < spec.high, spec.name
        assert spec.direction in (-1, 0, 1), spec.name


def test_the_printed_table_has_a_row_of_five_cells_per_statistic():
    lines = markdown(SPECS).splitlines()
    assert len(lines) == len(SPECS) + 2
    assert {line.count("|") for line in lines} == {6}
