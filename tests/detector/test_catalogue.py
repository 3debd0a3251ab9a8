from ghosttrack.detector.asking.families.ghosts import ghost_specs
from ghosttrack.detector.catalogue import SPECS, SUBJECT_KNOWN, markdown
from ghosttrack.detector.tracks.knownness import SUBJECT_STATISTICS
from ghosttrack.detector.tracks.lens import LENS_STATISTICS
from ghosttrack.detector.tracks.statistics import TRACK_STATISTICS


def test_every_row_of_families_a_to_h_is_there_with_its_expected_direction():
    lower = {
        *("commit_jump", "late_margin", "winner_share", "cluster_share", "support_gini"),
        *("len_excess", "half_life", "link_llr", "winner_trend", "set_jaccard"),
        *("subject_known", "subject_energy", "subject_dominance"),
    }
    exploratory = {"merge_rate", "split_rate", "nis_peak_depth", "l0_z"}
    higher = {
        *("commit_depth", "rank_area", "lens_flips", "settle_kl"),
        *("cand_entropy_mid", "cand_entropy_final", "rival_ratio", "rival_persistence", "n_rivals"),
        *("n_clusters", "cluster_entropy"),
        *("support_depth", "prior_share", "bias_share"),
        *("birth_rate", "death_rate", "late_birth_mass", "orphan_winner"),
        *("nis", "miss_rate", "mag_cv", "fvu", "fvu_max", "rarity"),
    }
    every = (*LENS_STATISTICS, *TRACK_STATISTICS, SUBJECT_KNOWN, *SUBJECT_STATISTICS)
    specs = [spec for spec in every if spec.family != "classic"]
    for direction, names in ((-1, lower), (0, exploratory), (1, higher)):
        assert {spec.name for spec in specs if spec.direction == direction} == names


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
