"""All that a few true labels say: what is reported, and what is written into the dataset."""

from __future__ import annotations

import json

import numpy as np

from pipeline.trust.acceptance import Acceptance, NoAcceptance, Promise
from pipeline.trust.gold_sample import GoldSample
from pipeline.trust.report import assess
from tests.trust.worlds import drawn, world

CHOICES = ("no", "yes")


def test_a_hundred_gold_rows_mend_a_leaning_model() -> None:
    logs, truth = world(20_000)
    report = assess(logs, drawn(truth, 100), CHOICES)
    decisions = report.decide(logs)
    assert np.mean(logs.argmax(axis=1) == truth) < 0.87
    assert np.mean(decisions.labels == truth) > 0.91
    assert report.before is not None
    assert report.after is not None
    assert report.after.calibration_error < report.before.calibration_error
    assert report.after.brier < report.before.brier


def test_rows_are_accepted_as_the_report_says() -> None:
    logs, truth = world(20_000)
    report = assess(logs, drawn(truth, 300), CHOICES, Promise(0.05, 0.95))
    assert isinstance(report.acceptance, Acceptance)
    decisions = report.decide(logs)
    assert decisions.accepted is not None
    assert decisions.accepted.sum() == report.acceptance.rows
    assert np.mean((decisions.labels != truth)[decisions.accepted]) <= 0.05
    assert report.acceptance.upper <= 0.05


def test_a_shard_by_itself_is_decided_as_among_all() -> None:
    logs, truth = world(5_000)
    report = assess(logs, drawn(truth, 300), CHOICES, Promise(0.1, 0.95))
    whole, part = report.decide(logs), report.decide(logs[1234:1301])
    assert np.array_equal(part.labels, whole.labels[1234:1301])
    assert np.array_equal(part.confidences, whole.confidences[1234:1301])
    assert whole.accepted is not None
    assert part.accepted is not None
    assert np.array_equal(part.accepted, whole.accepted[1234:1301])


def test_the_order_of_the_gold_rows_changes_nothing() -> None:
    logs, truth = world(3_000, leaning=(1.0, -1.0, 0.0))
    gold = drawn(truth, 200)
    turned = GoldSample.at_random(gold.rows[::-1], gold.values[::-1])
    choices = ("a", "b", "c")
    one = assess(logs, gold, choices, Promise(), miss=0.1).as_json()
    other = assess(logs, turned, choices, Promise(), miss=0.1).as_json()
    assert json.dumps(one) == json.dumps(other)


def test_few_gold_rows_or_one_class_make_no_fit_and_are_told_what_is_missing() -> None:
    logs, truth = world(1_000)
    few = assess(logs, drawn(truth, 12), CHOICES)
    assert few.calibration is None
    assert few.no_calibration == "12 gold rows, a fit needs 20: 8 more"
    same = np.flatnonzero(truth == 1)[:50]
    one_class = assess(logs, GoldSample.at_random(same, truth[same]), CHOICES)
    assert one_class.no_calibration == "all gold rows have the same label: a fit needs two"
    assert np.array_equal(one_class.decide(logs).labels, logs.argmax(axis=1))


def test_an_error_that_cannot_be_promised_says_what_can() -> None:
    logs, truth = world(2_000)
    report = assess(logs, drawn(truth, 40), CHOICES, Promise(0.01, 0.95))
    assert isinstance(report.acceptance, NoAcceptance)
    assert report.acceptance.more > 200
    assert report.acceptance.best_error is not None
    assert report.acceptance.best_error > 0.05
    decisions = report.decide(logs)
    assert decisions.accepted is not None
    assert not decisions.accepted.any()


def test_no_promise_is_made_from_rows_that_were_picked_for_being_uncertain() -> None:
    logs, truth = world(2_000)
    rows = np.argsort(logs.max(axis=1))[:200]
    picked = GoldSample(rows, truth[rows], np.full(200, 0.5), np.zeros(200, bool))
    report = assess(logs, picked, CHOICES, Promise(0.2, 0.95))
    assert report.acceptance is None
    assert report.no_promise is not None
    assert "drawn at random" in report.no_promise
    assert report.before is None
    assert report.decide(logs).accepted is None


def test_where_every_row_has_a_true_label_nothing_is_uncertain() -> None:
    logs, truth = world(512)
    everything = np.arange(512)
    report = assess(logs, GoldSample.at_random(everything, truth), CHOICES, Promise(0.04, 0.95))
    assert report.after is not None
    accuracy = report.after.accuracy
    assert accuracy.low == accuracy.value == accuracy.high
    assert [one.share.value for one in report.shares] == [np.mean(truth == k) for k in (0, 1)]
    assert isinstance(report.acceptance, Acceptance)
    assert report.acceptance.wrong / report.acceptance.reviewed <= 0.04


def test_a_report_of_no_gold_rows_at_all_is_one() -> None:
    logs, _ = world(100)
    report = assess(
        logs, GoldSample.at_random(np.zeros(0, int), np.zeros(0, int)), CHOICES, Promise()
    )
    assert report.before is None
    assert report.shares == ()
    json.dumps(report.as_json(), allow_nan=False)
