"""With what the numbers can be got again."""

import pandas as pd

from reports.contents import Contents
from reports.section import Pairs, Section
from reports.tables.sums import KERNEL, groups
from reports.words.naming import listing, many
from reports.words.settings import settings_tag, settings_text


def provenance(contents: Contents) -> Section:
    return Section("Provenance", [Pairs(facts(contents))])


def facts(contents: Contents) -> list[tuple[str, str]]:
    """(name, value) lines with which the numbers can be got again."""
    rows, quality = contents.rows, contents.quality
    both = [frame for frame in (rows, quality, contents.networks) if not frame.empty]
    every = [*both, contents.serving] if len(contents.serving) else both
    if contents.searched is not None:
        every = [*every, contents.searched.trials]
    lines = [("Tool version", listing(pd.concat([frame["tool_version"] for frame in every])) or "not given")]
    if both:
        lines.append(("Seeds", listing(pd.concat([frame["seed"] for frame in both])) or "not given"))
    elif not contents.serving.empty:
        lines += _descriptions(contents.serving)
    if not rows.empty:
        lines += _descriptions(rows)
        lines.append(("Masks", _masks(rows)))
    if not quality.empty:
        texts = quality[["text", "text_sha256"]].drop_duplicates()
        lines += [(f"Token ids of {t}", f"sha256 {h}") for t, h in texts.itertuples(index=False) if h]
    return lines


def _masks(rows: pd.DataFrame) -> str:
    hashed = rows["mask_sha256"] != ""
    needless = ~hashed & (rows["level"] == KERNEL) & (rows["source"] != "simulated")
    without = int((~hashed & ~needless).sum())
    parts = [f"{rows.loc[hashed, 'mask_sha256'].nunique():,} different hashes"] if hashed.any() or without else []
    parts += [f"{without:,} rows without one"] if without else []
    if needless.any():
        parts.append(
            f"none needed in {int(needless.sum()):,} rows: a GPU's time depends on the shape and on being 2:4 alone"
        )
    return "; ".join(parts)


def _descriptions(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Hash of each target's description, with all of its settings."""
    lines = []
    for key, specs in groups(rows[["target", "settings", "spec_sha256"]].drop_duplicates(), ["target"]):
        name = f"Description of {key['target']}"
        if many(len(specs)):
            lines.append((name, f"{len(specs):,} different settings; rows.csv has them with their hashes"))
            continue
        for settings, sha256 in zip(specs["settings"], specs["spec_sha256"], strict=True):
            said = f"sha256 {sha256}" if sha256 else "no hash given"
            short = settings_text(settings)
            tag = f" (settings {settings_tag(settings)})" if short != " ".join(settings.split()) else ""
            lines.append((name, f"{said}, with {settings}{tag}" if settings else said))
    return lines
