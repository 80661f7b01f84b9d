"""The search language: what a line means, what is wrong with one, and that a filter can be written and read back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import query
from postroom.clock import DAY, HOUR, MINUTE
from postroom.model import Aspect, Field, Filter, Queue, Relation, Route, Term
from postroom.query import LABELS, MAX_QUERY, MAX_TEXT, STATES, QueryProblem, flattened, parse, write

NOW = 1_795_000_000_000


def term(aspect: Aspect, relation: Relation, value: str | int, negated: bool = False) -> Filter:
    return Filter(terms=(Term(aspect, relation, value, negated),))


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("", Filter()),
        ("report", term(Aspect.ALL, Relation.HAS, "report")),
        ("-report", term(Aspect.ALL, Relation.HAS, "report", True)),
        ("from:alice@corp.example", term(Aspect.FROM, Relation.HAS, "alice@corp.example")),
        ("-from:bob", term(Aspect.FROM, Relation.HAS, "bob", True)),
        ("to:*@example.org", term(Aspect.TO, Relation.MATCHES, "*@example.org")),
        ('to:"*@example.org"', term(Aspect.TO, Relation.HAS, "*@example.org")),
        ('subject:"quarterly report"', term(Aspect.SUBJECT, Relation.HAS, "quarterly report")),
        (r'subject:"a \"b\" \\c"', term(Aspect.SUBJECT, Relation.HAS, r'a "b" \c')),
        ("subject:50%_off*", term(Aspect.SUBJECT, Relation.HAS, "50%_off*")),
        ("subject:re:invoice", term(Aspect.SUBJECT, Relation.HAS, "re:invoice")),
        ("QUEUE:Held", Filter(queues=(Queue.HELD,))),
        ("queue:held|delivery", Filter(queues=(Queue.DELIVERY, Queue.HELD))),
        ("-queue:held -queue:system", Filter(queues=(Queue.PROCESSING, Queue.BULK, Queue.DELIVERY))),
        ("route:inbound", Filter(routes=(Route.INBOUND,))),
        ("has:attachment", Filter(attachment=True)),
        ("-has:attachment", Filter(attachment=False)),
        ("age>10m", Filter(until=NOW - 10 * MINUTE - 1)),
        ("age>=10m", Filter(until=NOW - 10 * MINUTE)),
        ("age<1h", Filter(since=NOW - HOUR + 1)),
        ("-age>10m", Filter(since=NOW - 10 * MINUTE)),
        ("age>1h age>2h", Filter(until=NOW - 2 * HOUR - 1)),
        ("since:1970-01-01", Filter(since=0)),
        ("until:1970-01-02T00:00+01:00", Filter(until=DAY - HOUR)),
        ("since:2h", Filter(since=NOW - 2 * HOUR)),
        ("attempts>=3", term(Aspect.ATTEMPTS, Relation.LEAST, 3)),
        ("-attempts>=3", term(Aspect.ATTEMPTS, Relation.LESS, 3)),
        ("size>1MiB", term(Aspect.SIZE, Relation.MORE, 1 << 20)),
        ("next<5m", term(Aspect.NEXT, Relation.LESS, 5 * MINUTE)),
        ("ip:192.0.2.0/24", term(Aspect.IP, Relation.WITHIN, "192.0.2.0/24")),
        ("ip:192.0.2.", term(Aspect.IP, Relation.HAS, "192.0.2.")),
        ("ip:2001:db8::/32", term(Aspect.IP, Relation.WITHIN, "2001:db8::/32")),
        ("info:timeout", term(Aspect.INFO, Relation.HAS, "timeout")),
        ("error:greylisted", term(Aspect.ERROR, Relation.HAS, "greylisted")),
        ("destination:example.org", term(Aspect.DESTINATION, Relation.HAS, "example.org")),
        ("is:locked|due", term(Aspect.IS, Relation.HAS, "locked|due")),
        ("priority:low", term(Aspect.PRIORITY, Relation.HAS, "low")),
        ("label:maybe-delivered", term(Aspect.LABEL, Relation.HAS, "maybe-delivered")),
        ("id:00199b1c2d3e4f50", Filter(ids=(0x00199B1C2D3E4F50,))),
    ],
)
def test_what_a_line_means(line: str, meant: Filter) -> None:
    assert parse(line, NOW) == meant


def test_the_line_of_the_documentation() -> None:
    line = (
        'from:alice@corp.example to:*@example.org subject:"quarterly report" route:inbound queue:processing '
        "has:attachment "
        "age>10m attempts>=3 size>1MiB ip:192.0.2.0/24 info:timeout is:locked|waiting|due priority:low -from:bob"
    )
    found = parse(line, NOW)
    assert (found.queues, found.routes, found.attachment) == ((Queue.PROCESSING,), (Route.INBOUND,), True)
    assert len(found.terms) == 10
    assert parse(write(found), NOW + DAY) == found


@pytest.mark.parametrize(
    ("line", "at", "says", "meant"),
    [
        ("form:bob", 0, "no field is called 'form'", "from:"),
        ("report form:bob", 7, "no field is called 'form'", "from:"),
        ("http://x", 0, "no field is called 'http'", "in quotes"),
        ("from:", 0, "nothing follows from:", ""),
        ('subject:"open', 8, "opened and not closed", ""),
        ('subject:"a"b', 11, "quote in the middle", ""),
        ('sub"ject', 3, "quote in the middle", ""),
        ("queue:hold", 0, "'hold' is not one of processing", "queue:held"),
        ("queue:held -queue:held", 11, "no queue is left", ""),
        ("age:10m", 0, "compare it", "age>10m"),
        ("from>bob", 0, "cannot be compared", "from:bob"),
        ("age>10", 0, "expected a duration", "age>10seconds"),
        ("size>1Mib", 0, "expected a size", "size>1MiB"),
        ("attempts>=many", 0, "expected a whole number", ""),
        ("ip:192.0.2.0/99", 0, "is no network", "ip:192.0.2.0/24"),
        ("to:*", 0, "matches everything", ""),
        ("since:yesterday", 0, "expected a time like", ""),
        ("has:attachments", 0, "is not one of attachment", "has:attachment"),
        ("has:attachment -has:attachment", 15, "nothing can match", ""),
        ("is:asleep", 0, "is not one of locked", ""),
        ("x" * (MAX_TEXT + 1), 0, f"1 to {MAX_TEXT} characters", ""),
        ("x " * MAX_QUERY, MAX_QUERY, f"at most {MAX_QUERY}", ""),
        ("x " * 40, 64, "more than 32 conditions", ""),
    ],
)
def test_what_is_wrong_where_and_what_was_meant(line: str, at: int, says: str, meant: str) -> None:
    with pytest.raises(QueryProblem) as problem:
        parse(line, NOW)
    assert problem.value.at == at
    assert says in problem.value.what
    assert meant in problem.value.meant
    assert f"at character {at + 1}" in str(problem.value)


searched = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(lambda text: text.strip())
texts = st.builds(
    Term,
    st.sampled_from(
        [Aspect.ALL, Aspect.FROM, Aspect.TO, Aspect.SUBJECT, Aspect.INFO, Aspect.IP, Aspect.ERROR, Aspect.VERDICT],
    ),
    st.just(Relation.HAS),
    searched,
    st.booleans(),
)  # fmt: skip
numbers = st.builds(
    Term,
    st.sampled_from([Aspect.ATTEMPTS, Aspect.SIZE, Aspect.NEXT]),
    st.sampled_from([Relation.LESS, Relation.MOST, Relation.LEAST, Relation.MORE]),
    st.integers(0, 999_999_999),
)
words = st.one_of(
    *(
        st.builds(
            Term,
            st.just(aspect),
            st.just(Relation.HAS),
            st.lists(st.sampled_from(known), min_size=1, unique=True).map("|".join),
            st.booleans(),
        )
        for aspect, known in (
            (Aspect.IS, list(STATES)),
            (Aspect.LABEL, list(LABELS)),
            (Aspect.PRIORITY, ["normal", "low"]),
        )
    )
)
instants = st.none() | st.integers(0, 4_000_000_000_000)
filters = st.builds(
    Filter,
    queues=st.sets(st.sampled_from(Queue)).map(lambda chosen: tuple(queue for queue in Queue if queue in chosen)),
    routes=st.sets(st.sampled_from(Route)).map(lambda chosen: tuple(route for route in Route if route in chosen)),
    attachment=st.none() | st.booleans(),
    since=instants,
    until=instants,
    terms=st.lists(texts | numbers | words, max_size=8, unique=True).map(tuple),
)


@given(filters, st.integers(0, 4_000_000_000_000))
def test_every_filter_can_be_written_and_read_back(filter: Filter, now: int) -> None:
    assert parse(write(filter), now) == filter


@given(searched)
def test_a_filter_of_the_compatible_api_can_be_written_too(text: str) -> None:
    searching = Filter(text=text)
    assert parse(write(searching), NOW) == flattened(searching)
    assert flattened(msgspec.structs.replace(searching, text="")) == Filter()


@given(
    st.text(st.sampled_from('fromtsubject:queue"\\*|-<>= 1m/') | st.characters(exclude_categories=("Cs",)), max_size=60)
)
def test_any_line_is_understood_or_refused_with_a_place(line: str) -> None:
    try:
        found = parse(line, NOW)
    except QueryProblem as problem:
        place = problem.at
    else:
        assert parse(write(found), NOW) == found
        return
    assert 0 <= place <= len(line)


def test_both_means_what_meets_both() -> None:
    one = query.parse("queue:held|delivery since:2h from:a has:attachment id:1|2", NOW)
    other = Filter(
        queues=(Queue.DELIVERY, Queue.SYSTEM), since=NOW - 1000, until=NOW, text="b", field=Field.TO, ids=(2, 3)
    )
    found = query.both(one, other)
    assert found == query.both(found, Filter())
    assert (found.queues, found.ids, found.attachment) == ((Queue.DELIVERY,), (2,), True)
    assert (found.since, found.until) == (NOW - 1000, NOW)
    assert found.terms == (Term(Aspect.FROM, Relation.HAS, "a"), Term(Aspect.TO, Relation.HAS, "b"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("queue:held", "queue:system"), ("route:inbound", "-route:inbound"), ("id:1", "id:2"),
        ("has:attachment", "-has:attachment"),
    ],
)  # fmt: skip
def test_both_of_what_excludes_each_other_is_refused(one: str, other: str) -> None:
    with pytest.raises(QueryProblem):
        query.both(query.parse(one, NOW), query.parse(other, NOW))


def test_a_line_is_parted_as_it_is_written() -> None:
    assert query.spelled('  FROM:"a b"  -has:attachment x  age>1m ') == [
        ("from", 'FROM:"a b"'), ("has", "-has:attachment"), ("", "x"), ("age", "age>1m"),
    ]  # fmt: skip
    assert query.spelled(" ") == []
