"""Situations, reviews, roles and puzzles for the prompts of the embedded pack, one a line."""

from __future__ import annotations


def _lines(text: str) -> list[str]:
    """One entry a line; an indented line continues the one before."""
    return text.strip().replace("\n  ", " ").split("\n")


SITUATIONS = _lines("""
My flatmate never washes the dishes. I don't want to fight about it.
I was offered a better paid job in a city where I know nobody.
My best friend forgot my birthday and I feel silly for being hurt.
I lent my cousin 300 euros a year ago and he never speaks of it.
My daughter wants to quit the violin after five years.
I fell asleep in an important meeting and everybody saw it.
My boss praises my colleague for work that I did.
I have two weeks of holiday and no money to travel.
My parents want me to study law, but I love cooking.
I moved into a new house and the neighbours don't greet me.
My son is afraid of the dark and wakes us every night.
I am forty-five and would like to learn the cello.
I promised to help two people on the same Saturday.
My dog eats everything he finds on the street.
I feel lonely since I began working from home.
I got a haircut that I hate, and a wedding is in three days.
I sent a rude message to the wrong person.
My grandfather tells the same story every Sunday.
I cannot decide between a small new car and a big old one.
I always say yes at work and now I have too much to do.
My girlfriend wants a cat, and I am allergic.
I found a wallet with 200 dollars and no name in it.
My team laughs at jokes that I find mean.
I failed my driving test for the third time.
I have not spoken with my brother for six years and would like to write to him.
My neighbour's tree drops leaves into our pool.
I start at a new school on Monday and I am nervous.
My phone distracts me every few minutes.
I want to run a marathon, but I get bored after two kilometres.
My landlord wants to visit the flat every month.
I was invited to a party where I will meet my former boss.
My tomatoes have yellow leaves and I have watered them every day.
I am vegetarian and my mother-in-law cooks meat every time.
I often wake at four in the morning and think about work.
My friend asked me to read her novel, and I find it boring.
I would like to ask for a shorter working week.
Our baby cries every evening from six to eight.
I broke my aunt's favourite vase and nobody has noticed yet.
I have saved 2,000 dollars and don't know whether to invest it.
My class is noisy after lunch and I am a new teacher.
I am the only one in my group of friends without children.
My laptop is seven years old and slow, but it works.
I said I speak Spanish in my application, but I hardly do.
My husband snores and I am exhausted.
I want to give my room a new look for under 100 euros.
I have to give a toast and I hate speaking in public.
My colleague eats loudly at the desk next to mine.
I retire in June and have no hobbies.
I would like to stop buying clothes that I never wear.
My twelve-year-old wants a phone like everyone else.
My friend keeps cancelling our plans an hour before.
I was overcharged in a restaurant where I eat every week.
I get seasick and my family wants to go on a cruise.
My essay is due tomorrow and I have written one paragraph.
I want to learn to draw but I compare myself with others.
I adopted an old cat who hides under the bed all day.
My roommate uses my shampoo and denies it.
I am on a diet and my office has cake every Friday.
I would like to tell my manager that the deadline is impossible.
A customer shouted at me and I cried in the storeroom.
I have an hour between two trains in a town I don't know.
My sister is getting married abroad, and I can't afford the flight.
I keep losing my keys, glasses and tickets.
My team lost nine matches in a row and I am the captain.
I want to begin a vegetable garden, but our soil is clay.
I feel guilty when I rest.
My friend believes everything he reads online.
I inherited a piano that nobody in the family can play.
The people above me move furniture at midnight.
I would like to meet people in a town where everyone seems married.
I studied for weeks and still got a bad mark.
My online shop has many visitors but few buyers.
I have too many books and no space.
I want to write to a teacher who helped me twenty years ago.
My bicycle was stolen for the second time this year.
I don't know what to say to a colleague whose father died.
My parents can't work their new television and call me daily.
I have an interview by video and our internet is bad.
I must choose between a family dinner and my friend's concert.
My houseguest has stayed for three weeks instead of one.
""")

REVIEWS = _lines("""
The blender broke on the second day, and nobody answers my e-mails.
Warm, light, and it fits in my bag. Best jacket I have owned.
It is a chair. You can sit on it.
Lovely staff, terrible coffee.
We laughed from the first minute to the last.
The zip jams every time, but the colour is beautiful.
I would give zero stars if I could.
Arrived two weeks late, works fine.
The hotel pool was green, and not in a nice way.
My kids play with it every day and it still looks new.
Too expensive for what it is.
The soup came cold, then hot, then with an apology and a free dessert. We will return.
Not bad, not great.
The plot makes no sense, yet I could not stop reading.
Perfect for small kitchens.
The app crashes whenever I open the map.
I cried at the end and called my mother.
Battery lasts an hour, the box promised ten.
The guide knew every stone and told it with humour.
The mattress smells even after a month.
Exactly as described.
The dentist was patient with my nervous son.
I expected more after all that praise.
The sound is clear, the bass is weak, the price is fair.
They forgot our order, and then they forgot our second order.
A quiet film that stays with you.
The gloves kept me dry in four hours of rain.
The instructions are in a language that I could not identify.
Fast delivery and a handwritten card. Charming!
The shoes hurt for a week, now I never take them off.
The lecture was long and the slides were full of text.
It does what it should, but loudly.
Fresh bread, friendly people, fair prices.
The tent survived a storm; our neighbours' did not.
I bought it as a gift and she returned it.
Clean rooms, but the street is noisy until three.
What a waste of a good actor.
My back pain is gone since I use this cushion.
The paint peeled off after one wash.
Great value, although the handle feels cheap.
The waiter rolled his eyes when we asked for water.
The puzzle has one piece too few.
I learned more in this course than in two years at school.
Okay for children, boring for adults.
Support solved my problem in five minutes.
The camera is wonderful by day and useless at night.
The second album is even better than the first.
The cake looked nicer than it tasted.
I have recommended this plumber to my whole street.
The bus was clean, punctual and empty.
The museum was closed, though the website said open.
A bit small, but very cosy.
The keyboard feels great and two keys already stick.
Never again.
Simple rules, deep game, two hours gone like nothing.
The lamp flickers, and the seller says that this is normal.
The best plum dumplings outside my grandmother's kitchen.
The novel starts slowly, so be patient.
The gym is crowded after five, and the showers are cold.
They replaced the broken cup without asking questions.
""")

ROLES = _lines("""
You are a hotel receptionist. A guest says: the room next door is having a party.
You are a museum guide. A child asks: is the mummy real?
You are a pirate captain who has to explain the rules of the ship to a new cook.
You are a travel agent. A couple says: we want sun, but no beach.
You are a plant that needs water. Talk to your owner.
You are a patient maths tutor. I say: I will never understand fractions.
You are a waiter. A guest says: there is a hair in my soup.
You are a medieval blacksmith. A traveller shows you a ballpoint pen.
You are a news presenter. Report that all the clocks in town have stopped.
You are a sports commentator at a snail race.
You are a job interviewer at a bookshop. Ask me your first three questions.
You are a vet. A worried owner says: my rabbit has not eaten since yesterday.
You are a librarian. A reader says: I want something sad that ends well.
You are a time traveller from the year 2300. Describe our kitchens.
You are a bank clerk. An old man asks: is my money safe on the internet?
You are the voice of an elevator that has feelings.
You are a detective who has just entered the room where a necklace disappeared.
You are a tour guide on the Moon. Welcome the visitors.
You are a fitness coach. I say: I only have ten minutes a day.
You are a grandmother teaching her grandson to bake bread by phone.
You are a customer service agent. I write: my parcel says delivered, but it is not here.
You are a wise owl in a fable. A mouse asks you how to be brave.
You are a gardener at a castle. The queen wants roses in January.
You are a chess teacher. A student asks: why did I lose so fast?
You are a ship's computer that must tell the crew bad news gently.
You are a pharmacist. A customer asks: can I take this with milk?
You are a fashion adviser. I say: black suit, brown shoes, is that all right?
You are a radio host at night. A caller cannot sleep.
You are a mayor who opens a very small bridge.
You are a dragon who sells insurance.
You are a taxi driver who knows the best place for lunch.
You are a strict but kind editor. I show you my first sentence: It was a dark morning.
You are a park ranger. Hikers ask: may we feed the deer?
You are a historian who is asked whether people in the past were happier.
You are a flight attendant during light turbulence.
You are a carpenter. A customer says: the table must fit through a very narrow door.
You are an alien ordering breakfast for the first time.
You are a school principal writing on the last day of school.
You are a barista. Someone asks: what is the difference between a latte and a cappuccino?
You are a ghost who gives a tour of your own house.
""")

PUZZLES = _lines("""
Ann is taller than Ben. Cleo is shorter than Ben. Who is the shortest?
Four cars stand in a row. The red one is left of the blue one, the green one is at the far right, and the white one
  is between red and blue. What is the order?
All florps are green. Zim is not green. Can Zim be a florp?
Three boxes are labelled apples, pears and mixed, and every label is wrong. From which box should you take one fruit
  to find out all?
If yesterday was two days after Monday, what day is it today?
Pia finished before Max but after Lou. Ina finished last. Who won the race?
Some bakers are singers. All singers are early risers. Are some bakers early risers?
A farmer must take a goose, a cabbage and a dog over a river, and the boat carries him and one thing. What must he
  never leave alone together, and how does he cross?
Put these in order from smallest to largest: a village, a continent, a house, a country, a city.
A lamp is on. Its switch is pressed 17 times. Is it on or off?
Tim says: I always lie. Can that be true?
There are five hats, three black and two white. Two people wear black hats. How many black hats are left?
The cafe is north of the bank. The school is south of the bank. Is the cafe north or south of the school?
Which one does not belong: violin, trumpet, cello, harp? Explain.
What comes next: 3, 6, 12, 24?
What comes next: A, C, F, J?
Sort these steps of making tea: drink, boil water, pour water over the leaves, fill the kettle, wait three minutes.
If no fish can sing and Bubbles can sing, what do we know about Bubbles?
Jo has twice as many brothers as sisters. She has four brothers. How many children are in the family?
A meeting is after lunch, lunch is after the call, and the walk is before the call. What is the second event of the
  day?
Kai is older than Mo. Mo and Sue are twins. Is Kai older than Sue?
Every key opens exactly one of three doors. Key A does not open door 1, and key B opens door 3. Which key opens door
  1?
A snail climbs three metres each day and slides back one metre each night. When does it leave a five-metre well?
""")
