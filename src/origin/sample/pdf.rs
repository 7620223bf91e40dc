//! A page of text about the lab, under the file's name.

/// Writes the page for the file `name` as a PDF 1.4 (ISO 32000-1).
pub(super) fn write(name: &str) -> Vec<u8> {
    let content = content(name);
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 6 0 R\n\
         /Resources << /Font << /F1 4 0 R /F2 5 0 R >> >> >>"
            .to_owned(),
        font("Helvetica-Bold"),
        font("Helvetica"),
        format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ),
        format!(
            "<< /Title ({}) /Producer (labnet) /CreationDate (D:20230428085902Z) >>",
            escape(name)
        ),
    ];
    // The second line's bytes above 127 tell programs that copy it that it is no text.
    let mut pdf = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (n, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", pdf.len());
        pdf.extend(format!("{} 0 obj\n{object}\nendobj\n", n + 1).as_bytes());
    }
    let start = pdf.len();
    let size = objects.len() + 1;
    let end = format!(
        "xref\n0 {size}\n{table}trailer\n<< /Size {size} /Root 1 0 R /Info 7 0 R >>\n\
         startxref\n{start}\n%%EOF\n"
    );
    pdf.extend(end.as_bytes());
    pdf
}

fn font(name: &str) -> String {
    format!("<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>")
}

/// What the page says; an empty line is a paragraph's end.
const TEXT: [&str; 23] = [
    "This page was made up by labnet while you downloaded it: it lies on no disk, and it is the",
    "same, byte for byte, on every machine. If you can read it, it came through whole.",
    "",
    "How it came to you:",
    "",
    "1.  Your client had no address. It called out, and the DHCP server leased it one:",
    "    DISCOVER, OFFER, REQUEST, ACK.",
    "2.  It knew a name, example.com, and asked the DNS server for the address behind it.",
    "3.  There it found the proxy and opened a session over UDP. UDP may lose, repeat and",
    "    reorder what it carries, so every signal of the session has a number.",
    "4.  It asked for the list of files. The proxy asked the scraper, which had read the links",
    "    of a download page.",
    "5.  It chose this file and fetched it over HTTP, from its leased address.",
    "",
    "Things to try:",
    "",
    "-   Lose signals on purpose (--loss) and watch SIGNLOST bring them back.",
    "-   Break the download off and start it again: only the missing bytes are sent.",
    "-   Compare the SHA-256 sum of this file with your neighbour's.",
    "-   Look at the packets with tcpdump or Wireshark while you do so. Which protocol tells you",
    "    that bytes were lost, and which one repairs it without telling?",
    "",
    "What is carried is only known to the two ends; everything in between just passes it on.",
];

fn content(name: &str) -> String {
    let mut content = String::from(
        "0.06 0.38 0.55 rg\n0 790 595 52 re f\n\
         BT /F1 22 Tf 1 1 1 rg 56 808 Td (labnet) Tj ET\n",
    );
    // A long name in smaller letters: the widest ones take about as much as their size.
    let size = (480 / name.len().max(1)).clamp(5, 20);
    content += &format!(
        "BT /F1 {size} Tf 0.1 0.15 0.2 rg 56 742 Td ({}) Tj ET\n\
         BT /F2 11 Tf 15 TL 56 706 Td\n",
        escape(name)
    );
    for line in TEXT {
        content += &format!("({}) Tj T*\n", escape(line));
    }
    content + "ET"
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('(', "\\(")
        .replace(')', "\\)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_points_at_the_objects() {
        let pdf = write("task2.pdf");
        let text = String::from_utf8_lossy(&pdf);
        let start = text.rsplit("startxref\n").next().unwrap();
        let start: usize = start.split('\n').next().unwrap().parse().unwrap();
        let table = str::from_utf8(&pdf[start..]).unwrap();
        let mut rows = table.lines().skip(3);
        for n in 1..=7 {
            let at: usize = rows.next().unwrap()[..10].parse().unwrap();
            assert!(pdf[at..].starts_with(format!("{n} 0 obj\n").as_bytes()));
        }
        assert_eq!(rows.next(), Some("trailer"));
    }

    #[test]
    fn the_stream_is_as_long_as_it_says() {
        let pdf = write("task2.pdf");
        let text = String::from_utf8_lossy(&pdf);
        let (before, after) = text.split_once(" >>\nstream\n").unwrap();
        let length: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(after[length..].starts_with("\nendstream"));
    }
}
