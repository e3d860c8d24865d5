"""The page to watch a run, in a real browser."""

from itertools import islice

import pytest

from flops_fl.observers.page import PageObserver
from tests.observers.browser import CHROMIUM, Browser
from tests.observers.events import EVIL, RUN, failure, listening, record

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")


@pytest.mark.slow
@needs_chromium
def test_a_browser_shows_the_rounds_and_text_as_text(tmp_path):
    with listening() as (observer, number), Browser(tmp_path) as browser:
        observer.on_start(RUN, [])
        browser.open(f"http://127.0.0.1:{number}/")
        browser.until("document.getElementById('project').textContent === 'digits'")
        observer.on_wait([EVIL, "b"], 2)
        observer.on_stage(1, "fit", [EVIL, "b"])
        browser.until("stage.innerText.startsWith('Round 1 fit: 2 of 2 awaited for ')")
        observer.on_answer(1, "fit", EVIL, EVIL)
        observer.on_answer(1, "fit", "b", None)
        observer.on_round(record(1, failures=[failure(EVIL, EVIL, EVIL)]), None)
        observer.on_round(record(2, clusters={EVIL: {"learners": 2, "failures": 0}}), None)
        browser.until("document.getElementById('rounds').rows.length === 2")
        assert browser.run("document.querySelectorAll('#loss path').length") == 1
        assert (
            browser.run(f"document.getElementById('rows').rows[0].innerText.includes({EVIL!r})")
            is True
        )
        assert browser.run("document.querySelectorAll('script, img').length") == 1
        assert browser.run("document.title") == "digits: round 2/3"
        for box in ("why", "clusters", "rows"):
            assert EVIL in browser.run(f"document.getElementById('{box}').textContent")
        observer.on_end("completed", None)
        browser.until("document.getElementById('status').textContent === 'completed'")
        assert not browser.said


@pytest.mark.slow
@needs_chromium
def test_a_browser_comes_back_by_itself(tmp_path):
    class Cut(PageObserver):
        def events(self):
            yield from islice(super().events(), 2)  # as if the connection broke after an event

    with listening(Cut) as (observer, number), Browser(tmp_path) as browser:
        observer.on_start(RUN, [])
        browser.open(f"http://127.0.0.1:{number}/")
        browser.until("document.getElementById('link').textContent.startsWith('No connection')")
        observer.on_round(record(1), None)
        browser.until("document.getElementById('rounds').rows.length === 1")
        assert not [said for said in browser.said if said.get("source") != "network"]


@pytest.mark.slow
@needs_chromium
def test_a_browser_draws_a_thousand_learners_in_a_tenth_of_a_second(tmp_path):
    with listening() as (observer, number), Browser(tmp_path) as browser:
        observer.on_start(RUN, [record(n) for n in range(1, 301)])
        names = [f"learner-{n:04}" for n in range(1000)]
        observer.on_wait(names, 10)
        observer.on_stage(301, "fit", names)
        for n, name in enumerate(names[:900]):
            observer.on_answer(301, "fit", name, "out of memory" if n % 4 == 0 else None)
        browser.open(f"http://127.0.0.1:{number}/")
        browser.until("rows.size > 0")
        browser.run("""(async () => {
            text = await (await fetch("state.json")).text();
            again = () => {  // as after opening: no row is there yet
                rows = new Map();
                $("rows").replaceChildren();
                const began = performance.now();
                take(JSON.parse(text));
                draw();
                document.body.offsetHeight;  // lays it out
                return performance.now() - began;
            };
        })()""")
        # The least of many says what it costs; the rest is other processes' work, too.
        taken = [browser.run("again()")]
        while min(taken) >= 100 and len(taken) < 50:
            taken.append(browser.run("again()"))
        print(f"1000 learners drawn in {min(taken):.0f} ms")
        assert min(taken) < 100
        assert browser.run("document.getElementById('count').textContent").startswith("1000, ")
        assert browser.run("$('rows').rows[0].cells[4].textContent") == "out of memory"
