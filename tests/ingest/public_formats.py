"""Tiny exports made by hand in the shapes of public data sets; none of the titles, ids or ratings is of a real one."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final


def _json_lines(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _genres(*set: int) -> str:
    return "|".join(str(int(at in set)) for at in range(19))


_POSTS: Final = """<?xml version="1.0" encoding="utf-8"?>
<posts>
  <row Id="1" PostTypeId="1" AcceptedAnswerId="3" CreationDate="2020-01-01T10:00:00.000" Score="2" \
Body="&lt;p&gt;How?&lt;/p&gt;" OwnerUserId="7" Title="How does a &quot;kettle&quot; boil?" Tags="|water|heat|" />
  <row Id="2" PostTypeId="1" CreationDate="2020-01-02T10:00:00.000" Title="Why is tea bitter?" Tags="&lt;tea&gt;" />
  <row Id="3" PostTypeId="2" ParentId="1" CreationDate="2020-01-03T10:00:00.500" Score="4" Body="So." OwnerUserId="8" />
  <row Id="4" PostTypeId="5" CreationDate="2020-01-03T11:00:00.000" Body="A tag's wiki." OwnerUserId="-1" />
</posts>
"""

FORMATS: Final[Mapping[str, Mapping[str, bytes]]] = {
    "movielens-100k-grouplens": {
        "u.data": b"1\t10\t5\t880000000\n2\t10\t1\t880000100\n",
        "u.item": (
            f"10|Café Noir (1990)|01-Jan-1990||http://films.example/10|{_genres(8, 16)}\n"
            f"11|Untold (1991)||||{_genres(0)}\n"
        ).encode("latin-1"),
        "u.user": b"1|24|M|writer|10001\n2|31|F|other|10002\n3|40|F|other|10003\n",
    },
    "movielens-1m": {
        "movies.dat": '10::Café "Noir" (1990)::Comedy|Drama\n11::Untold: Part 2 (1991)::Drama\n'.encode("latin-1"),
        "users.dat": b"1::F::1::10::10001\n2::M::25::15::10002\n",
        "ratings.dat": b"1::10::5::970000000\n2::11::2::970000100\n",
    },
    "movielens-25m": {
        "movies.csv": b'movieId,title,genres\n10,"Noir, The (1990)",Comedy|Drama\n'
        b"11,Untold (1991),(no genres listed)\n",
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,10,4.5,1500000000\n2,11,0.5,1500000100\n",
    },
    "amazon-2014": {
        "meta_Kettles.json.gz": gzip.compress(
            b"{'asin': 'B000000001', 'title': \"Cook's Kettle\", 'description': 'It boils.', 'price': 9.5, 'imUrl': "
            b"'http://x.example/1.jpg', 'related': {'also_bought': ['B000000002']}, 'salesRank': {'Kitchen': 7}, "
            b"'brand': 'Acme', 'categories': [['Home', 'Kettles'], ['Home', 'Tea']]}\n"
            b"{'asin': 'B000000002', 'categories': [['Home']]}\n"
        ),
        "reviews_Kettles_5.json.gz": gzip.compress(
            _json_lines(
                {
                    "reviewerID": "A1",
                    "asin": "B000000001",
                    "reviewerName": "Ann B.",
                    "helpful": [2, 3],
                    "reviewText": "Boils.",
                    "overall": 5.0,
                    "summary": "Good",
                    "unixReviewTime": 1300000000,
                    "reviewTime": "03 13, 2011",
                },
                {"reviewerID": "A2", "asin": "B000000002", "overall": 2.0, "unixReviewTime": 1300086400},
            )
        ),
    },
    "amazon-2018": {
        "meta_Kettles.json": _json_lines(
            {
                "category": ["Home", "Kettles"],
                "description": ["It boils.", "Quickly."],
                "title": "Kettle",
                "brand": "Acme",
                "price": "$9.50",
                "asin": "B000000001",
                "also_buy": ["B000000002"],
            },
            {"category": [], "description": [], "title": "Cup", "asin": "B000000002"},
        ),
        "Kettles_5.json": _json_lines(
            {
                "overall": 5.0,
                "vote": "2",
                "verified": True,
                "reviewTime": "03 13, 2011",
                "reviewerID": "A1",
                "asin": "B000000001",
                "style": {"Size:": " 1 l"},
                "reviewerName": "Ann B.",
                "reviewText": "Boils.",
                "summary": "Good",
                "unixReviewTime": 1300000000,
            },
            {"overall": 1.0, "verified": False, "reviewerID": "A2", "asin": "B000000002", "unixReviewTime": 1300086400},
        ),
    },
    "amazon-2023": {
        "meta_Kettles.jsonl": _json_lines(
            {
                "main_category": "Amazon Home",
                "title": "Kettle",
                "average_rating": 4.8,
                "rating_number": 10,
                "features": [],
                "description": ["It boils."],
                "price": 9.5,
                "images": [{"thumb": "http://x.example/1.jpg", "variant": "MAIN"}],
                "store": "Acme",
                "categories": ["Home", "Kettles"],
                "details": {"Color": "red"},
                "parent_asin": "B000000001",
                "bought_together": None,
            },
            {
                "main_category": None,
                "title": "Cup",
                "description": [],
                "price": None,
                "store": None,
                "categories": [],
                "parent_asin": "B000000002",
            },
        ),
        "Kettles.jsonl": _json_lines(
            {
                "rating": 5.0,
                "title": "Good",
                "text": "Boils.",
                "images": [],
                "asin": "B00000000R",
                "parent_asin": "B000000001",
                "user_id": "AE1",
                "timestamp": 1588687728923,
                "helpful_vote": 0,
                "verified_purchase": True,
            },
            {
                "rating": 1.0,
                "title": "Bad",
                "text": "",
                "asin": "B000000002",
                "parent_asin": "B000000002",
                "user_id": "AE2",
                "timestamp": 1588687728000,
                "verified_purchase": False,
            },
        ),
    },
    "recbole": {
        "kettles.item": b"item_id:token\tname:token_seq\tgenre:token_seq\tprice:float\n"
        b"10\tCook's Kettle\tHome Tea\t9.5\n11\tCup\t\t\n",
        "kettles.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4\t1300000000\n"
        b"2\t11\t2\t1300000100\n",
    },
    "lastfm-hetrec": {
        "artists.dat": 'id\tname\turl\tpictureURL\n1\t"Quoted" Band\thttp://www.example/1\thttp://pics.example/1.jpg\n'
        "2\tÄther 以太\thttp://www.example/2\t\n".encode(),
        "user_artists.dat": b"userID\tartistID\tweight\r\n2\t1\t1388\r\n3\t2\t7\r\n",
        "user_friends.dat": b"userID\tfriendID\r\n2\t3\r\n3\t2\r\n",
    },
    "stackexchange-dump": {
        "Posts.xml": _POSTS.encode("utf-8-sig"),
        "Users.xml": b'<?xml version="1.0" encoding="utf-8"?>\n<users>\n'
        b'  <row Id="7" Reputation="1" DisplayName="Ann" AccountId="70" />\n'
        b'  <row Id="8" Reputation="9" DisplayName="Ben" AccountId="80" />\n</users>\n',
        "Comments.xml": b"<comments>\n"
        b'  <row Id="1" PostId="3" Text="Ah!" CreationDate="2020-01-04T10:00:00" UserId="7" />\n'
        b'  <row Id="2" PostId="2" Text="Hm." CreationDate="2020-01-05T10:00:00" UserId="8" />\n'
        b'  <row Id="3" PostId="2" Text="Hm." CreationDate="2020-01-05T10:00:00" UserDisplayName="gone" />\n'
        b"</comments>\n",
        "Votes.xml": b'<votes>\n  <row Id="1" PostId="3" VoteTypeId="2" CreationDate="2020-01-04T00:00:00" />\n'
        b'  <row Id="2" PostId="1" VoteTypeId="5" CreationDate="2020-01-05T00:00:00" UserId="8" />\n</votes>\n',
    },
}
"""Name of a mapping in ingest/mappings → the files it is for."""


def write(name: str, folder: Path) -> Path:
    """Write the files of a format into a folder of its own, and return that."""
    directory = folder / name
    directory.mkdir()
    for file, data in FORMATS[name].items():
        (directory / file).write_bytes(data)
    return directory
