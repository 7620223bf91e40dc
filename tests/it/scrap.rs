//! The scraper's reading of pages: those of the common servers, odd ones, hostile ones.

use labnet::scrap::{catalog::MAX_FILES, page};
use proptest::prelude::*;
use url::Url;

/// The folder that the saved pages show; beside them it holds the folder `sub`.
const FOLDER: [&str; 8] = [
    "100%.txt",
    "50MB.zip",
    "a;b.txt",
    "c:d.txt",
    "grün.txt",
    "it's \"quoted\" & <b>.txt",
    "my file (1).txt",
    "q?x=1#y.txt",
];

fn at(url: &str) -> Url {
    Url::parse(url).expect("a URL")
}

/// The names that a page at `http://host:8080/pub/` offers.
fn names(html: impl AsRef<[u8]>) -> Vec<String> {
    let catalog = page::files(html.as_ref(), &at("http://host:8080/pub/"));
    let files = catalog.files().iter();
    files.map(|file| file.name.clone()).collect()
}

fn urls(html: &str) -> Vec<String> {
    let catalog = page::files(html.as_bytes(), &at("http://host:8080/pub/"));
    let files = catalog.files().iter();
    files.map(|file| file.url.to_string()).collect()
}

#[test]
fn the_pages_of_the_common_servers_give_the_folder() {
    let pages: [(&str, &[u8]); 5] = [
        ("nginx", include_bytes!("../pages/nginx.html")),
        (
            "Apache, plain",
            include_bytes!("../pages/apache_plain.html"),
        ),
        (
            "Apache, fancy",
            include_bytes!("../pages/apache_fancy.html"),
        ),
        ("Caddy", include_bytes!("../pages/caddy.html")),
        ("Python", include_bytes!("../pages/python.html")),
    ];
    for (server, html) in pages {
        assert_eq!(names(html), FOLDER, "{server}");
    }
}

#[test]
fn the_order_is_the_pages() {
    let html = "<a href=b.zip>b</a> <a href=a.zip>a</a> <a href=b.zip>b again</a>";
    assert_eq!(names(html), ["b.zip", "a.zip"]);
}

#[test]
fn links_are_resolved() {
    let html = r#"
        <a href="rel.zip"><a href="/abs.zip"><a href="../up.zip"><a href="./a/../b/deep.zip">
        <a href="//host:8080/same.zip"><a href="http://host:8080/pub/full.zip">
        <A HREF='  quoted.zip
        '><a href=%41%20b.zip><a href="doc.pdf#page=2"><a href="get.zip?mirror=1">"#;
    assert_eq!(
        urls(html),
        [
            "http://host:8080/pub/rel.zip",
            "http://host:8080/abs.zip",
            "http://host:8080/up.zip",
            "http://host:8080/pub/b/deep.zip",
            "http://host:8080/same.zip",
            "http://host:8080/pub/full.zip",
            "http://host:8080/pub/quoted.zip",
            "http://host:8080/pub/%41%20b.zip",
            "http://host:8080/pub/doc.pdf",
            "http://host:8080/pub/get.zip?mirror=1",
        ]
    );
    assert_eq!(names("<a href=%41%20b.zip>"), ["A b.zip"]);
}

#[test]
fn what_is_no_file_is_left_out() {
    for href in [
        "",
        "#top",
        "?C=N;O=D",
        "?sort=name&amp;order=asc",
        ".",
        "./",
        "..",
        "../",
        "/",
        "sub/",
        "/pub/",
        "sub/..",
        "mailto:teacher@lab.test",
        "javascript:alert(1)",
        "data:text/plain,x",
        "tel:+49123",
        "ftp://host:8080/pub/a.zip",
        "https://host:8080/pub/a.zip",
        "http://host/pub/a.zip",
        "http://host:8081/pub/a.zip",
        "http://other:8080/pub/a.zip",
        "//other/a.zip",
        "http://[broken/a.zip",
        "..%2F..%2Fetc%2Fpasswd",
        "nul%00.zip",
    ] {
        let html = format!("<a href=\"{href}\">x</a>");
        assert_eq!(names(&html), [""; 0], "{href}");
    }
    assert_eq!(
        names("<a name=x>x</a><a>y</a><link href=style.css>"),
        [""; 0]
    );
}

#[test]
fn names_that_only_look_like_no_file_are_files() {
    let html = "<a href='%2e%2e.zip'><a href='a%3Fb'><a href='...'><a href='noextension'>";
    assert_eq!(names(html), ["...zip", "a?b", "...", "noextension"]);
}

#[test]
fn the_first_base_counts_wherever_it_stands() {
    let html = "<a href=a.zip><base target=_top><base href=/files/><base href=/no/>";
    assert_eq!(urls(html), ["http://host:8080/files/a.zip"]);
    assert_eq!(names("<base href=http://cdn.test/><a href=a.zip>"), [""; 0]);
}

#[test]
fn what_only_looks_like_a_link_is_none() {
    let html = "<!-- <a href=no1.zip> --><script>'<a href=no2.zip>'</script>\
        <style><a href=no3.zip></style><title><a href=no4.zip></title>\
        <textarea><a href=no5.zip></textarea><noframes><a href=no6.zip></noframes>\
        <p title='<a href=no7.zip>'><a href=yes.zip>";
    assert_eq!(names(html), ["yes.zip"]);
}

#[test]
fn credentials_are_not_passed_on() {
    let page_url = at("http://teacher:secret@host/");
    let catalog = page::files(b"<a href=a.zip>", &page_url);
    assert_eq!(catalog.files()[0].url.as_str(), "http://host/a.zip");
}

#[test]
fn bytes_that_are_no_utf8_do_not_hide_a_file() {
    let catalog = page::files(b"\xff<a href=\"caf%E9.txt\">\xfe</a>", &at("http://host/"));
    assert_eq!(catalog.files()[0].name, "caf\u{fffd}.txt");
    assert_eq!(catalog.files()[0].url.as_str(), "http://host/caf%E9.txt");
}

#[test]
fn a_page_of_too_many_files_is_cut() {
    let html: String = (0..MAX_FILES + 10)
        .map(|n| format!("<a href={n}.zip>{n}</a>"))
        .collect();
    assert_eq!(names(&html).len(), MAX_FILES);
}

#[test]
fn a_tag_without_an_end_costs_little_and_hides_little() {
    // Unbounded, the tokenizer would compare each of these attributes with all before it.
    let attributes: String = (0..200_000).map(|n| format!(" a{n:x}")).collect();
    let html = format!("<a href=a.zip><p{attributes}><a href=b.zip><p{attributes}");
    assert_eq!(names(&html), ["a.zip", "b.zip"]);
    let picture = format!("<img src='data:,{}'><a href=c.zip>", "x".repeat(1 << 20));
    assert_eq!(names(&picture), ["c.zip"]);
}

proptest! {
    #[test]
    fn any_page_is_read(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        names(bytes);
    }

    #[test]
    fn any_markup_is_read(
        pieces in prop::collection::vec(
            prop_oneof![
                Just("<a href=".to_owned()), Just("<base href=".into()), Just(">".into()),
                Just("<!--".into()), Just("-->".into()), Just("<script>".into()), Just("'".into()),
                Just("\"".into()), Just("&#x".into()), Just("%".into()), Just("<![CDATA[".into()),
                "[a-z/.:?#%;]{0,12}", any::<String>(),
            ],
            0..40,
        )
    ) {
        for name in names(pieces.concat()) {
            prop_assert!(!name.is_empty() && !name.contains(['/', '\0']));
        }
    }

    #[test]
    fn every_name_that_a_server_links_to_is_found(name in "[^/\0]{1,60}") {
        prop_assume!(name != "." && name != "..");
        let href = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
        prop_assert_eq!(names(format!("<a href=\"./{href}\">")), [name]);
    }
}
