"""Requests with lists of their own for the prompts of the embedded pack: programs with a bug, tools, wishes, words."""

from __future__ import annotations

BUGS = """
def add_all(numbers):
    total = 0
    for n in numbers:
        total = n
    return total
---
def greet(name):
    print("Hello " + nam)
---
for i in range(1, 10):
print(i)
---
def last(items):
    return items[len(items)]
---
def is_even(n):
    return n % 2 == 1
---
count = 0
while count < 5:
    print(count)
---
prices = {"tea": 2, "cake": 3}
print(prices["coffee"])
---
age = input("Your age? ")
if age > 17:
    print("Welcome")
---
def add_item(item, basket=[]):
    basket.append(item)
    return basket
---
def mean(values):
    return sum(values) / len(values)

print(mean([]))
---
words = ["a", "b", "c"]
for word in words:
    if word == "b":
        words.remove(word)
---
def fact(n):
    return n * fact(n - 1)
---
if temperature = 30:
    print("hot")
---
name = "Ada"
name[0] = "E"
---
def area(r):
    3.14 * r ** 2

print(area(2) + 1)
---
with open("notes.txt") as file:
    text = file.read()
file.write("done")
---
const total = 10;
total = total + 5;
---
function double(x) {
  x * 2;
}
console.log(double(4));
---
for (let i = 0; i <= list.length; i++) {
  console.log(list[i].name);
}
---
if (answer = "yes") {
  start();
}
---
const sum = "5" + 3;
console.log(sum); // should be 8
---
async function load(url) {
  const reply = fetch(url);
  return reply.json();
}
---
const ages = [10, 9, 100];
console.log(ages.sort()); // should be 9, 10, 100
---
let user;
console.log(user.name.length);
---
function max(list) {
  let best = 0;
  for (const x of list) if (x > best) best = x;
  return best;
}
console.log(max([-3, -7]));
---
button.addEventListener("click", save());
""".strip().split("\n---\n")

TOOLS = """
Write an SQL query that lists all customers from Lisbon.; Write an SQL query that counts the orders of each customer.;
SQL: find the three most expensive products in a table called items.; SQL: which pupils have no entry in the table
marks?; Explain LEFT JOIN and INNER JOIN with two tiny tables.; Create an SQL table for a library with books and
loans.; Write an SQL statement that raises all prices by five percent.; SQL: delete rows older than one year, safely.;
What does GROUP BY do? Show a small example.; SQL: the average rating for each film, but only for films with ten or
more ratings.; Write a regular expression that matches a time such as 09:45.; Regex for a phone number with or without
spaces?; What does the pattern ^[A-Z][a-z]+$ match? Give examples.; Write a regex that finds doubled words like "the
the".; Regular expression for a date in the form 2024-05-31, explained piece by piece.; How do I match everything
between two brackets with a regex?; Make a regex that accepts hex colours.; Replace several spaces by one with a
regular expression in Python.; Which shell command lists hidden files?; Write a bash script that backs up a folder
with today's date in the name.; How do I find all files larger than 100 MB on Linux?; Shell one-liner: count the lines
that contain "error" in all log files.; What does chmod 755 mean?; Explain the pipe symbol in the terminal with two
examples.; Write a bash loop that renames .jpeg files to .jpg.; How can I see which process uses port 8080?; Explain
grep, sed and awk in one sentence each.; Write a cron line that runs a script every Monday at six.; Write the HTML of
a page with a heading, a picture and a list of three links.; Make an HTML form for a newsletter with name and
address.; How do I centre a box on a page with CSS?; CSS: make a button that turns green when the mouse is over it.;
Write an HTML table with the opening hours of a cafe.; CSS grid with three columns that become one on a phone.; What
is the difference between id and class in HTML?; Make a dark theme with CSS variables.; Write HTML for a recipe card
and style it.; How do I make a picture round in CSS?; Explain margin and padding like I'm new to this.; Write a git
command list for making a branch, committing and merging it.; What is a merge conflict and how do I solve it?; Write a
Dockerfile for a small Python program.; Write a YAML file with the settings of a weather app.; Write a Markdown file
that introduces a small project.; Convert this to JSON: name is Rosa, age is 31, hobbies are chess and rowing.; Write
an Excel formula that adds only the positive numbers of a column.; Excel: how do I look up a price by the product's
name?; Write a unit test in Python for a function that reverses text.; Explain the error "list index out of range".;
What does "undefined is not a function" mean?
""".replace("\n", " ").split(";")

WISHES = """
a novel for a long train ride; a film for a rainy Sunday; three board games for two people; a present for a
nine-year-old who loves insects; a present for a father who has everything; a weekend trip with a baby; an easy dinner
for unexpected guests; a vegetarian picnic; a breakfast without sugar; a cheap hobby for the winter; a podcast topic
for science lovers; music for concentrating; a name for a grey kitten; a name for a flower shop; a first pet for a
small flat; a plant for a dark corner; a sport for someone with bad knees; a city in Europe for a first solo trip; a
day by the sea in winter; a book for a teenager who hates reading; a classic film without violence; a costume made
from things at home; a dessert with apples; a soup for a cold; a game for a party of twenty; an outdoor activity for a
school class; a farewell present for a colleague; something sweet without an oven; a poem for a wedding; a museum day
with grandparents; a lunch box for a picky child; a documentary topic for family evenings; a language to learn next; a
beginner's instrument; an exercise for tired shoulders; a snack before sport; a romantic evening at home; a stop on a
road trip through mountains; a thank-you present for a nurse; a theme for a costume party
""".replace("\n", " ").split(";")

BRAINSTORM = """
uses for an empty jam jar; ways to make a waiting room nicer; names for a talking tram; games with a single ball;
reasons to get up early; ways to welcome new neighbours; inventions for people who lose things; topics for a school
newspaper; uses of old newspapers; ways to save water in a hotel; characters for a puppet show; stalls for a village
fair; songs about weather; shops that do not exist yet; ways to say thank you; small acts of kindness; things to do
without electricity; uses of a garden on a roof; questions for a first date; uses of a drone on a farm; ways to make
maths fun; titles for a cookbook of soups; apps for grandparents; prizes for a quiz night; themes for a photo
exhibition
""".replace("\n", " ").split(";")

PLANS = """
a move to a new flat; a surprise party for thirty guests; a study week before three exams; a first day at work for a
new colleague; a school trip to a farm; a two-hour workshop about recycling; a weekend of camping; a spring clean of
the whole house; a meeting of a reading group; a small wedding in a garden; a month of learning to cook; a day in the
zoo with twins; a fundraising concert; the launch of a small online shop; a week of healthy lunches; a flea market; a
night shift at an animal shelter; a vegetable garden from March to October; a return to running after an injury; a
four-day hike; a family reunion; a job search; a chess tournament for beginners; a rainy day with children; a project
to repair an old boat
""".replace("\n", " ").split(";")

PRODUCTS = """
a folding bicycle; a bakery that opens at four in the morning; an umbrella that never turns inside out; honey from
city bees; a language course for travellers; socks made of bamboo; a quiet vacuum cleaner; a hotel for cats; a lamp
shaped like the moon; a juice made of ugly fruit; a dance school for seniors; a backpack with a raincoat; a repair
shop for toys; a lake-side campsite; a tea that smells of summer; an app that reminds you to drink; soap without
plastic; a pocket telescope; a wooden toothbrush; a second-hand bookshop; a car wash by hand; a knitting club; a spicy
mustard; a mattress in a box; a mountain cable car; a birthday cake service; an alarm clock that wakes you with light;
a local radio station; a garden tool set for children; noise-free keyboards; a museum of buttons; a pizza van;
reusable lunch boxes; a piano teacher; a winter coat for dogs; a smart bird feeder; a barefoot shoe; a bicycle
courier; a puzzle with a thousand pieces; a night bus
""".replace("\n", " ").split(";")

WORDS = """
serendipity; reluctant; ambiguous; resilient; nostalgia; frugal; meticulous; ephemeral; gregarious; candid; obsolete;
plausible; benevolent; tedious; integrity; irony; paradox; hypothesis; metaphor; consensus; sustainable; arbitrary;
coherent; diligent; eloquent; feasible; hesitate; inevitable; jeopardy; keen; lenient; mundane; novice; omit;
pragmatic; quarrel; redundant; solitude; tentative; unanimous; vague; wary; yearn; zeal; thrifty; stubborn; glimpse;
threshold; compromise; ambition; ballpark figure; a piece of cake; to break the ice; once in a blue moon; under the
weather; to spill the beans; a blessing in disguise; to cut corners; the last straw; by heart
""".replace("\n", " ").split(";")

ROUGH = """
me and him was going to the shop yesterday.; She don't like no vegetables.; The informations are on the table.; I have
went there two times.; Their going to loose the game.; He runned fastly to catch the bus.; If I would know, I would
told you.; The dog wagged it's tail.; Everyone have to bring there own lunch.; I am living here since five years.; We
discussed about the problem.; She is more taller than her brother.; Yesterday I see a film what was very good.; There
is less people than last year.; Can you borrow me your pen?; The news are bad today.; He said me that he was tired.; I
look forward to meet you.; The childrens was playing outside the hole day.; Neither of them are coming.; Due to the
fact that it was raining, we made the decision to stay at home.; The report was written by the intern and was read by
nobody.; It is what it is and we do what we can do.; The thing with the stuff over there is broken.; At this point in
time we are not in a position to help you.; Give me the file now.; Your idea is bad and it will never work.; The cat
sat on the mat.; I was very, very, very happy about the present.; He walked into the room.
""".replace("\n", " ").split(";")
